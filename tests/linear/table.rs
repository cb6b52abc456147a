//! The table of cases through a head: hidden states of 0 and 1 give every row its logits, and the head's gradient is that of the logits.

use wgpu_distill::bytemuck::cast_slice;
use wgpu_distill::cpu::Cpu;
use wgpu_distill::linear::{FusedLinear, Linear, LinearBatch, LinearOutputs, Teacher};
use wgpu_distill::{GradWrite, Outputs, RowMetrics, RowResult, Scope, Storage};

use crate::cases::compare::{self, Outcome};
use crate::cases::{self, Case};
use crate::report;

/// Most rows of a case: the hidden size is the number of rows.
const MOST_ROWS: usize = 300;

/// Runs a case, or returns `None` where no head gives its logits, or where a row makes the whole head's gradient NaN.
fn run(case: &Case, loss: &FusedLinear) -> Option<Result<Outcome, String>> {
    if !case.runs_into_slices() || case.rows > MOST_ROWS || case.rows == 0 {
        return None;
    }
    // 0 times NaN is NaN.
    let truth = case.reference();
    if truth.grad_student_logits.iter().any(|g| g.is_nan()) {
        return None;
    }
    let host = case.host();
    let batch = host.batch();
    let (rows, classes) = (case.rows, case.classes);
    let ignored = |row: usize| batch.labels[row] == case.config.ignore_index;
    // Row `r` of the hidden states is 1 at `r`, and column `r` of the weights has its logits.
    let mut weights = vec![0.0; classes * rows];
    let mut hidden_states = vec![0.0; rows * rows];
    for row in 0..rows {
        if ignored(row) {
            hidden_states[row * rows..][..rows].fill(f32::NAN);
            continue;
        }
        hidden_states[row * rows + row] = 1.0;
        for class in 0..classes {
            let logits = &batch.student_logits;
            let logit = logits.values.get(row * logits.row_stride + class);
            // 0 times an infinity is NaN.
            if !logit.is_finite() {
                return None;
            }
            weights[class * rows + row] = logit;
        }
    }
    let teacher = match batch.teacher_ids {
        Some(ids) => Teacher::TopK {
            log_probabilities: batch.teacher_logits,
            ids,
        },
        None => Teacher::Logits(batch.teacher_logits),
    };
    let student = Linear::new(&hidden_states, &weights, rows, classes);
    let batch = LinearBatch {
        soft_labels: batch.soft_labels,
        row_weights: batch.row_weights,
        class_weights: batch.class_weights,
        ..LinearBatch::new(student, teacher, batch.labels)
    };
    let mut results = vec![RowResult::default(); rows];
    let mut metrics = vec![RowMetrics::default(); rows];
    let mut grad_weights = vec![f32::NAN; classes * rows];
    let outputs = LinearOutputs {
        rows: Some(&mut results),
        metrics: case.metrics.then_some(&mut metrics[..]),
        grad_weights: Some(&mut grad_weights),
        ..LinearOutputs::default()
    };
    let summary = loss.run_into(&case.config, case.progress, &batch, outputs);
    let gradient = (0..rows).flat_map(|row| {
        let column = &grad_weights[row..];
        column.iter().step_by(rows).copied()
    });
    Some(summary.map_err(|e| e.to_string()).map(|summary| Outcome {
        summary,
        rows: results,
        gradient: gradient.collect(),
        metrics: if case.metrics { metrics } else { Vec::new() },
    }))
}

/// Compares a case with the reference, and the rows with those of the engine on the logits, bit by bit.
fn check(case: &Case, got: &Outcome) -> Result<(), String> {
    compare::check(case, &case.reference(), got)?;
    let host = case.host();
    let outputs = Outputs {
        metrics: case.metrics,
        ..Outputs::ALL
    };
    let engine = Cpu::new().run(&case.config, case.progress, &host.batch(), outputs);
    let engine = engine.map_err(|e| e.to_string())?;
    // The mean KDR of several chunks has another rounding.
    if case.config.scope == Scope::Batch {
        return Ok(());
    }
    let bits = |rows: &[RowResult]| cast_slice::<_, u32>(rows).to_vec();
    if bits(&engine.rows) != bits(&got.rows) {
        return Err("the engine has other results of rows".to_owned());
    }
    let bits = |rows: &[RowMetrics]| cast_slice::<_, u32>(rows).to_vec();
    if bits(&engine.metrics) != bits(&got.metrics) {
        return Err("the engine has other metrics of rows".to_owned());
    }
    Ok(())
}

#[test]
fn cases_of_the_table() {
    let mut failures = Vec::new();
    let (mut passed, mut elsewhere) = (0, 0);
    // The engines run all of them.
    for mut case in cases::for_drivers() {
        // Other tests accumulate.
        case.config.grad_write = GradWrite::Overwrite;
        case.storage[2] = Storage::F32;
        // Chunks of a few rows, then one.
        for budget in [40 * case.classes, usize::MAX] {
            let loss = FusedLinear::on(Cpu::new()).with_memory_budget(budget);
            let done = run(&case, &loss);
            let checked = done.map(|got| got.and_then(|got| check(&case, &got)));
            match checked {
                None => elsewhere += 1,
                Some(Ok(())) => passed += 1,
                Some(Err(why)) => failures.push(format!("  {}, {budget}: {why}", case.name)),
            }
        }
    }
    report::ran(&format!(
        "linear: cases of the table through a head: {passed} passed, {} failed, {elsewhere} not applicable",
        failures.len()
    ));
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(passed > 150, "only {passed}");
}
