//! One row of a batch.

use super::setup::Setup;
use crate::rule::Shape;
use crate::{Batch, Logits, Values};

/// The logits and the label of one row, and the numbers of the call.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub student: Values<'a>,
    /// May have fewer classes than the student.
    pub teacher: Values<'a>,
    /// The classes of the teacher's list, whose log-probabilities `teacher` has.
    pub ids: Option<&'a [i32]>,
    pub label: i32,
    /// All of the student's classes.
    pub soft_label: Option<Values<'a>>,
    pub weight: f32,
    pub setup: &'a Setup<'a>,
}

impl<'a> Row<'a> {
    /// Returns true if the gradient has no term of the teacher's row.
    pub fn student_alone(&self) -> bool {
        self.setup.rule.sampled || self.ids.is_some()
    }

    /// Returns true if the gradient follows from the row's exponentials, so that they are worth keeping.
    pub fn applies_exponentials(&self) -> bool {
        let shape = self.setup.shape;
        self.student_alone() || matches!(shape, Shape::Plain | Shape::Mixture | Shape::Below)
    }

    pub fn of(setup: &'a Setup<'a>, batch: &Batch<'a>, row: usize) -> Self {
        let classes = batch.classes();
        Self {
            student: values(&batch.student_logits, row, classes),
            teacher: values(&batch.teacher_logits, row, classes),
            ids: batch.ids(row),
            label: batch.labels[row],
            soft_label: batch.soft_label(row),
            weight: batch.row_weight(row),
            setup,
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
