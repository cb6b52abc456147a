//! Metrics of rows, by their definitions.

use super::distributions::{logits_of, x_ln_ratio};
use super::mix::Row;
use super::rows::{RowResult, RowStats};
use crate::{Batch, Config, flags};

/// Metrics of one row in f64, or their means: [`RowMetrics`](crate::RowMetrics) has their meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "described in `crate::RowMetrics`")]
pub struct RowMetrics {
    pub forward_kl: f64,
    pub teacher_entropy: f64,
    pub student_entropy: f64,
    pub hard: f64,
    pub soft: f64,
    pub student_lse: f64,
    pub teacher_lse: f64,
    pub agreement: f64,
    pub student_accuracy: f64,
    pub teacher_accuracy: f64,
}

impl RowMetrics {
    /// The metrics in the order of the fields.
    pub fn values(&self) -> [f64; 10] {
        [
            self.forward_kl,
            self.teacher_entropy,
            self.student_entropy,
            self.hard,
            self.soft,
            self.student_lse,
            self.teacher_lse,
            self.agreement,
            self.student_accuracy,
            self.teacher_accuracy,
        ]
    }

    fn of([a, b, c, d, e, f, g, h, i, j]: [f64; 10]) -> Self {
        Self {
            forward_kl: a,
            teacher_entropy: b,
            student_entropy: c,
            hard: d,
            soft: e,
            student_lse: f,
            teacher_lse: g,
            agreement: h,
            student_accuracy: i,
            teacher_accuracy: j,
        }
    }
}

/// The classes with the largest logit.
fn largest(logits: &[f64]) -> Vec<bool> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits.iter().map(|x| *x == max).collect()
}

/// The metrics of a row: 0 if it is ignored or left out, NaN if its label is invalid or it has no finite result.
pub(super) fn of_row(
    config: &Config,
    batch: &Batch<'_>,
    row: usize,
    stats: &RowStats,
    result: &RowResult,
) -> RowMetrics {
    if result.flags & (flags::IGNORED | flags::SKIPPED) != 0 {
        return RowMetrics::default();
    }
    if !result.is_averaged() {
        return RowMetrics::of([f64::NAN; 10]);
    }
    let sampled = config.divergence.is_sampled();
    let [student, teacher] = logits_of(config, batch, row).map(|logits| largest(&logits));
    let label = batch.labels[row] as usize;
    let both = student.iter().zip(&teacher).any(|(s, t)| *s && *t);
    let one = |yes: bool| f64::from(u8::from(yes));
    let of_both = |yes| if sampled { f64::NAN } else { one(yes) };
    let row = Row::new(config, batch, row);
    let entropy = |logs: &[f64]| -> f64 { logs.iter().map(|log| -x_ln_ratio(*log, 0.0)).sum() };
    RowMetrics {
        forward_kl: stats.kl,
        // The kernels do not sum the classes that the student masks.
        teacher_entropy: match stats.kl.is_finite() {
            true => stats.teacher_entropy,
            false => f64::NAN,
        },
        student_entropy: entropy(row.log_p()),
        hard: row.hard(),
        soft: row.soft(config),
        student_lse: stats.student_lse,
        teacher_lse: stats.teacher_lse,
        agreement: of_both(both),
        student_accuracy: one(student[label]),
        teacher_accuracy: of_both(teacher[label]),
    }
}

/// The means over the rows that are valid, finite and not left out; 0 if there are none.
pub fn mean_metrics(rows: &[RowResult], metrics: &[RowMetrics]) -> RowMetrics {
    let averaged: Vec<_> = rows
        .iter()
        .zip(metrics)
        .filter(|(row, _)| row.is_averaged())
        .map(|(_, metrics)| metrics.values())
        .collect();
    let count = averaged.len().max(1) as f64;
    RowMetrics::of(std::array::from_fn(|i| {
        averaged.iter().map(|values| values[i]).sum::<f64>() / count
    }))
}
