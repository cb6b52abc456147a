//! Cuts a batch of slices into row ranges that the device's buffers hold, and plans them.

use std::ops::Range;

use super::memory::padded;
use crate::plan::{Limits, Matrix, Plan, Problem};
use crate::{Batch, Logits, OutputsMut, Result, Storage};

/// Row ranges of at most `most` bytes each, usually one; empty if there are no rows. All but the last have the same length.
pub(super) fn row_ranges(rows: usize, bytes_per_row: usize, most: u64) -> Vec<Range<usize>> {
    let length = usize::try_from(most / bytes_per_row.max(64) as u64).unwrap_or(usize::MAX);
    let length = length.max(1);
    let starts = (0..rows).step_by(length);
    starts.map(|s| s..rows.min(s + length)).collect()
}

/// Bytes from row to row.
pub(super) fn row_bytes(logits: &Logits<'_>) -> usize {
    logits.row_stride * logits.values.storage().bytes()
}

/// The bytes of rows `range`.
pub(super) fn rows_of<'a>(logits: &Logits<'a>, range: &Range<usize>) -> &'a [u8] {
    if range.is_empty() {
        return &[];
    }
    let bytes = logits.values.storage().bytes();
    let start = range.start * logits.row_stride;
    let end = (range.end - 1) * logits.row_stride + logits.classes;
    &logits.values.as_bytes()[start * bytes..end * bytes]
}

/// The teacher's logits with only the classes that the student has too.
pub(super) fn teacher_of<'a>(batch: &Batch<'a>) -> Logits<'a> {
    let teacher = batch.teacher_logits;
    Logits {
        classes: teacher.classes.min(batch.classes()),
        ..teacher
    }
}

/// Splits off the outputs of the first `rows` rows.
pub(super) fn split_outputs<'a>(
    outputs: OutputsMut<'a>,
    rows: usize,
) -> (OutputsMut<'a>, OutputsMut<'a>) {
    let (first_rows, rest_rows) = outputs.rows.map(|all| all.split_at_mut(rows)).unzip();
    let metrics = outputs.metrics.map(|all| all.split_at_mut(rows));
    let (first_metrics, rest_metrics) = metrics.unzip();
    let (first, rest) = outputs.gradient.map(|all| all.split_at_row(rows)).unzip();
    (
        OutputsMut {
            rows: first_rows,
            metrics: first_metrics,
            gradient: first,
        },
        OutputsMut {
            rows: rest_rows,
            metrics: rest_metrics,
            gradient: rest,
        },
    )
}

/// The problem of `rows` rows, each matrix in a separate buffer. The gradient has no gaps between its rows.
pub(super) fn problem(
    rows: usize,
    student: &Logits<'_>,
    teacher: &Logits<'_>,
    soft_labels: Option<&Logits<'_>>,
    gradient: Option<Storage>,
) -> Problem {
    let matrix = |storage, row_stride, classes| {
        let matrix = Matrix {
            storage,
            row_stride,
            offset: 0,
            buffer_bytes: 0,
        };
        let end = matrix.end(rows, classes);
        Matrix {
            buffer_bytes: padded(usize::try_from(end).unwrap_or(usize::MAX)),
            ..matrix
        }
    };
    let uploaded = |logits: &Logits<'_>| {
        let storage = logits.values.storage();
        let matrix = matrix(storage, logits.row_stride, logits.classes);
        (matrix, logits.classes)
    };
    let classes = student.classes;
    let gradient = gradient.map(|storage| matrix(storage, classes, classes));
    Problem {
        soft_labels: soft_labels.map(|y| uploaded(y).0),
        ..Problem::new(rows, uploaded(student), uploaded(teacher), gradient)
    }
}

/// The plans of row ranges.
pub(super) struct RangePlans {
    first: Plan,
    last: Option<Plan>,
}

impl RangePlans {
    /// One plan for all ranges of the same length.
    pub fn new(ranges: &[Range<usize>], plan: impl Fn(usize) -> Result<Plan>) -> Result<Self> {
        let first = ranges.first().map_or(0, |range| range.len());
        let last = ranges.last().map_or(0, |range| range.len());
        Ok(Self {
            first: plan(first)?,
            last: (last != first).then(|| plan(last)).transpose()?,
        })
    }

    /// The plan of the range at `index` of `count`.
    pub fn get(&self, index: usize, count: usize) -> &Plan {
        match &self.last {
            Some(last) if index + 1 == count => last,
            _ => &self.first,
        }
    }
}

/// Bytes of the largest buffer for a row range.
pub(super) fn upload_bytes(limits: &Limits) -> u64 {
    limits.buffer_bytes.min(1 << 31) / 2
}

/// Bytes of a row range that one dispatch can bind whole.
pub(super) fn bound_bytes(limits: &Limits) -> u64 {
    one_buffer_each(limits).room() / 2
}

/// Limits with smaller bindings: each also fits in a separate buffer, and in one readback buffer with the other results.
pub(super) fn one_buffer_each(limits: &Limits) -> Limits {
    let buffer = limits.buffer_bytes.saturating_sub(64);
    Limits {
        binding_bytes: limits.binding_bytes.min(buffer),
        ..*limits
    }
}
