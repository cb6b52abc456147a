//! One row of a batch.

use crate::{Batch, Config, Logits, Values};

/// The logits and the label of one row, and the configuration.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub student: Values<'a>,
    /// May have fewer classes than the student.
    pub teacher: Values<'a>,
    pub label: i32,
    pub config: &'a Config,
}

impl<'a> Row<'a> {
    pub fn of(config: &'a Config, batch: &Batch<'a>, row: usize) -> Self {
        let classes = batch.classes();
        Self {
            student: values(&batch.student_logits, row, classes),
            teacher: values(&batch.teacher_logits, row, classes),
            label: batch.labels[row],
            config,
        }
    }
}

/// The first `classes` logits of a row.
pub(super) fn values<'a>(logits: &Logits<'a>, row: usize, classes: usize) -> Values<'a> {
    let start = row * logits.row_stride;
    logits
        .values
        .part(start..start + classes.min(logits.classes))
}
