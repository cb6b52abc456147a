//! Checks of arguments, before anything runs.

use super::batch::{Linear, LinearBatch, LinearOutputs, Teacher};
use crate::{Config, Error, Progress, Result, validate};

/// Most elements of a hidden state.
const MOST_HIDDEN: u64 = 1 << 28;

/// Names of hidden states, weights and bias in errors.
type Names = [&'static str; 3];

const STUDENT: Names = ["student.hidden_states", "student.weights", "student.bias"];
const TEACHER: Names = ["teacher.hidden_states", "teacher.weights", "teacher.bias"];

/// Checks a matrix without gaps.
fn matrix(name: &'static str, rows: usize, columns: usize, got: usize) -> Result<()> {
    match validate::elements(rows, columns)? == got {
        true => Ok(()),
        false => Err(Error::MatrixShape {
            name,
            rows,
            columns,
            got,
        }),
    }
}

fn linear([hidden_states, weights, bias]: Names, linear: &Linear<'_>, rows: usize) -> Result<()> {
    let (hidden, classes) = (linear.hidden, linear.classes);
    validate::shape(weights, rows, classes, classes)?;
    if hidden == 0 {
        let name = hidden_states;
        return Err(Error::ZeroHiddenSize { name });
    }
    validate::within("the hidden size", hidden as u64, MOST_HIDDEN)?;
    matrix(hidden_states, rows, hidden, linear.hidden_states.len())?;
    matrix(weights, classes, hidden, linear.weights.len())?;
    match linear.bias {
        Some(values) => matrix(bias, classes, 1, values.len()),
        None => Ok(()),
    }
}

fn outputs(batch: &LinearBatch<'_>, outputs: &LinearOutputs<'_>) -> Result<()> {
    let rows = batch.rows();
    let (hidden, classes) = (batch.student.hidden, batch.student.classes);
    if let Some(results) = &outputs.rows {
        validate::row_count("rows", rows, results.len())?;
    }
    if let Some(metrics) = &outputs.metrics {
        validate::row_count("metrics", rows, metrics.len())?;
    }
    if let Some(gradient) = &outputs.grad_hidden_states {
        matrix("grad_hidden_states", rows, hidden, gradient.len())?;
    }
    if let Some(gradient) = &outputs.grad_weights {
        matrix("grad_weights", classes, hidden, gradient.len())?;
    }
    match &outputs.grad_bias {
        Some(_) if batch.student.bias.is_none() => Err(Error::Unsupported {
            what: "`grad_bias` without `student.bias`".to_owned(),
            why: "the student has no bias; give one, of zeros if need be, or leave `grad_bias` out",
        }),
        Some(gradient) => matrix("grad_bias", classes, 1, gradient.len()),
        None => Ok(()),
    }
}

/// Checks everything that a call is given.
pub(super) fn run(
    config: &Config,
    progress: Progress,
    batch: &LinearBatch<'_>,
    memory: &LinearOutputs<'_>,
) -> Result<()> {
    validate::config(config)?;
    let rows = batch.rows();
    linear(STUDENT, &batch.student, rows)?;
    match &batch.teacher {
        Teacher::Linear(teacher) => linear(TEACHER, teacher, rows)?,
        Teacher::Logits(logits)
        | Teacher::TopK {
            log_probabilities: logits,
            ..
        } => validate::logits("teacher_logits", logits, rows)?,
    }
    let others = batch.without_products();
    validate::beside_logits(config, &others)?;
    validate::rows(config, &others, others.classes())?;
    validate::listed::metrics(config, &others, memory.metrics.is_some())?;
    validate::progress(config.selection, progress)?;
    outputs(batch, memory)
}
