//! The problem that a plan is made for: shapes, storage types, and the buffers that hold matrices and lists.

use crate::shader::Access;
use crate::{Result, Storage, validate};

/// Bytes of the structs that the device keeps per row, per workgroup or per batch.
pub(crate) const ROW_STATS_BYTES: u64 = 224;
pub(crate) const DECISION_BYTES: u64 = 80;
pub(crate) const ROW_RESULT_BYTES: u64 = 16;
pub(crate) const SWEEP_SUMS_BYTES: u64 = 16;
pub(crate) const ROW_REPORT_BYTES: u64 = 64;
pub(crate) const SUMMARY_BYTES: u64 = 80;

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
}

impl Problem {
    /// A problem without soft labels, weights and metrics, whose outputs share no buffer with its inputs. Teacher classes that the student lacks are left out.
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

/// A list in a caller buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct List {
    /// Bytes from the buffer's start to the first item.
    pub offset: u64,
    /// Bytes of the buffer.
    pub buffer_bytes: u64,
}

impl List {
    /// A list at the start of a buffer.
    pub fn new(buffer_bytes: u64) -> Self {
        Self {
            offset: 0,
            buffer_bytes,
        }
    }

    /// Checks that `bytes` bytes fit, and that they start at a multiple of `alignment`.
    pub(super) fn check(&self, name: &'static str, bytes: u64, alignment: u64) -> Result<()> {
        let end = self.offset.saturating_add(bytes);
        validate::region(name, self.offset..end, alignment, self.buffer_bytes)
    }
}

/// The type of labels in a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LabelType {
    /// 32 bits.
    #[default]
    I32,
    /// 64 bits, as frameworks hold labels. The kernels read two words.
    I64,
}

impl LabelType {
    /// Bytes of a label.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

/// Placement of labels, weights, row results and summary in their buffers. The matrices are in the [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lists {
    /// `[rows]` of `label_type`, at a multiple of its bytes.
    pub labels: List,
    /// The type of the labels.
    pub label_type: LabelType,
    /// `i32 [rows, k]` without gaps, at a multiple of 4 bytes; `None` exactly if the teacher has no list.
    pub teacher_ids: Option<List>,
    /// `f32 [rows]`, at a multiple of 4 bytes; `None` exactly if the problem has no weights.
    pub row_weights: Option<List>,
    /// `f32 [classes]` of the student, at a multiple of 4 bytes; `None` exactly if the problem has none.
    pub class_weights: Option<List>,
    /// [`RowResult`](crate::RowResult)` [rows]`, 16 bytes each, at a multiple of 16; `None` if they are not needed.
    pub row_results: Option<List>,
    /// [`RowReport`](crate::RowReport)` [rows]`, 64 bytes each, at a multiple of 64, instead of `row_results`; `Some` exactly if the problem
    /// has metrics.
    pub row_metrics: Option<List>,
    /// One [`Summary`](crate::Summary), 80 bytes, at a multiple of 256; `None` if it is not needed.
    pub summary: Option<List>,
}

const _: () = {
    assert!(size_of::<crate::RowStats>() as u64 == ROW_STATS_BYTES);
    assert!(size_of::<crate::Decision>() as u64 == DECISION_BYTES);
    assert!(size_of::<crate::RowResult>() as u64 == ROW_RESULT_BYTES);
    assert!(size_of::<crate::Summary>() as u64 == SUMMARY_BYTES);
    assert!(size_of::<crate::RowReport>() as u64 == ROW_REPORT_BYTES);
};
