//! The problem that a plan is made for: shapes, storage types, and the buffers that hold matrices.

use super::lists::{ROW_REPORT_BYTES, ROW_RESULT_BYTES};
use crate::shader::Access;
use crate::{Shard, Storage};

/// A matrix `[rows, classes]` in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// The storage type of the elements.
    pub storage: Storage,
    /// Elements from row to row.
    pub row_stride: usize,
    /// Bytes from the buffer's start to row 0.
    pub offset: u64,
    /// Bytes of the buffer.
    pub buffer_bytes: u64,
}

impl Matrix {
    /// Bytes from the buffer's start to the end of the last row; `u64::MAX` if that overflows.
    pub fn end(&self, rows: usize, classes: usize) -> u64 {
        if rows == 0 {
            return self.offset;
        }
        let before = (rows as u64 - 1).saturating_mul(self.row_stride as u64);
        let elements = before.saturating_add(classes as u64);
        let bytes = elements.saturating_mul(self.storage.bytes() as u64);
        self.offset.saturating_add(bytes)
    }

    /// Returns true if every row starts at a multiple of four elements and the last one may be read up to the next multiple.
    fn takes_vec4(&self, rows: usize, classes: usize) -> bool {
        let vector = 4 * self.storage.bytes() as u64;
        self.row_stride.is_multiple_of(4)
            && self.offset.is_multiple_of(vector)
            && self.end(rows, classes.next_multiple_of(4)) <= self.buffer_bytes
    }
}

/// Shapes, storage types and placement of the matrices that a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Problem {
    /// Rows of the batch.
    pub rows: usize,
    /// Classes of the student.
    pub classes: usize,
    /// Classes of the teacher that the student has too; with `teacher_list` the entries of a row's list.
    pub teacher_classes: usize,
    /// True if the teacher is a list of classes, with their log-probabilities in `teacher`.
    pub teacher_list: bool,
    /// The student's logits.
    pub student: Matrix,
    /// The teacher's logits.
    pub teacher: Matrix,
    /// The gradient, if there is one.
    pub gradient: Option<Matrix>,
    /// The soft labels, if there are any.
    pub soft_labels: Option<Matrix>,
    /// True if an output and an input lie in the same buffer.
    pub shared_buffers: bool,
    /// True if the gradient overwrites the student's logits: both are the same matrix.
    pub in_place: bool,
    /// True if each row has a weight.
    pub row_weights: bool,
    /// True if each class has a weight.
    pub class_weights: bool,
    /// True if rows have metrics.
    pub metrics: bool,
    /// The place of the columns among all classes, if they lie on several devices.
    pub shard: Option<Shard>,
}

impl Problem {
    /// A problem of whole rows without soft labels, weights and metrics, whose outputs share no buffer with its inputs. Teacher classes that the student lacks are left out.
    pub fn new(
        rows: usize,
        (student, classes): (Matrix, usize),
        (teacher, teacher_classes): (Matrix, usize),
        gradient: Option<Matrix>,
    ) -> Self {
        Self {
            rows,
            classes,
            teacher_classes: teacher_classes.min(classes),
            teacher_list: false,
            student,
            teacher,
            gradient,
            soft_labels: None,
            shared_buffers: false,
            in_place: false,
            row_weights: false,
            class_weights: false,
            metrics: false,
            shard: None,
        }
    }

    /// Bytes of the partial summary of a workgroup.
    pub(super) fn partial_bytes(&self) -> u64 {
        if self.metrics { 96 } else { 48 }
    }

    /// Bytes of the results that a row has in a list.
    pub(super) fn result_bytes(&self) -> u64 {
        if self.metrics {
            ROW_REPORT_BYTES
        } else {
            ROW_RESULT_BYTES
        }
    }

    /// The matrices, each with the number of its columns that the kernels access. The teacher may have fewer than the student.
    pub(super) fn matrices(&self) -> impl Iterator<Item = (Matrix, usize)> {
        let list = [
            Some((self.student, self.classes)),
            Some((self.teacher, self.teacher_classes)),
            self.gradient.map(|gradient| (gradient, self.classes)),
            self.soft_labels.map(|labels| (labels, self.classes)),
        ];
        list.into_iter().flatten()
    }

    /// The widest access that every matrix allows whose rows are read or written by vectors. Those of a teacher may not be.
    pub(super) fn access(&self, teacher_rows: bool) -> Access {
        let takes_vec4 = |(m, classes): (Matrix, usize)| m.takes_vec4(self.rows, classes);
        let teacher = !teacher_rows || takes_vec4((self.teacher, self.teacher_classes));
        let gradient = self.gradient.map(|g| (g, self.classes));
        let rows = [Some((self.student, self.classes)), gradient];
        match teacher && rows.into_iter().flatten().all(takes_vec4) {
            true => Access::Vec4,
            false => Access::Element,
        }
    }
}
