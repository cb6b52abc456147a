//! Slices in pieces that buffers of the device hold, and the parts of a batch that go there.

use std::ops::Range;

use super::Gpu;
use super::encode::{GpuBatch, GpuLogits, GpuSlice};
use super::memory::upload;
use crate::plan::{Limits, Matrix, Plan, Problem, Tiling};
use crate::{Batch, Config, Logits, Result, Storage, Values};

/// Rows `range` of a matrix, in the memory of the host.
pub(super) fn rows_of<'a>(logits: &Logits<'a>, range: &Range<usize>) -> &'a [u8] {
    if range.is_empty() {
        return &[];
    }
    let bytes = logits.values.storage().bytes();
    let start = range.start * logits.row_stride;
    let end = (range.end - 1) * logits.row_stride + logits.classes;
    &logits.values.as_bytes()[start * bytes..end * bytes]
}

/// A matrix as it will be on the device.
fn on<'a>(buffer: &'a wgpu::Buffer, logits: &Logits<'_>) -> GpuLogits<'a> {
    GpuLogits {
        buffer,
        offset: 0,
        storage: logits.values.storage(),
        classes: logits.classes,
        row_stride: logits.row_stride,
    }
}

/// What of the teacher is looked at: the classes that the student has too.
fn teacher_of<'a>(batch: &Batch<'a>) -> Logits<'a> {
    let teacher = batch.teacher_logits;
    Logits {
        classes: teacher.classes.min(batch.classes()),
        ..teacher
    }
}

pub(super) fn part<'a>(batch: &Batch<'a>, range: &Range<usize>) -> Batch<'a> {
    let cut = |logits: &Logits<'a>| {
        let start = (range.start * logits.row_stride).min(logits.values.len());
        let values = match logits.values {
            Values::F32(v) => Values::F32(&v[start..]),
            Values::F16(v) => Values::F16(&v[start..]),
            Values::Bf16(v) => Values::Bf16(&v[start..]),
        };
        Logits { values, ..*logits }
    };
    Batch {
        student_logits: cut(&batch.student_logits),
        teacher_logits: cut(&batch.teacher_logits),
        labels: &batch.labels[range.clone()],
    }
}

/// Pieces of `rows` rows with at most so many bytes each, to be uploaded one after the other. Usually one; none of no rows.
pub(super) fn pieces(rows: usize, bytes_per_row: usize, most: u64) -> Vec<Range<usize>> {
    let per_piece = usize::try_from(most / bytes_per_row.max(64) as u64).unwrap_or(usize::MAX);
    let per_piece = per_piece.max(1);
    let starts = (0..rows).step_by(per_piece);
    starts.map(|s| s..rows.min(s + per_piece)).collect()
}

/// Rows of the longest piece, which is the first.
pub(super) fn longest(pieces: &[Range<usize>]) -> usize {
    pieces.first().map_or(0, |piece| piece.len())
}

pub(super) fn batch_pieces(batch: &Batch<'_>, most: u64) -> Vec<Range<usize>> {
    let row = |l: &Logits<'_>| l.row_stride * l.values.storage().bytes();
    let widest = row(&batch.student_logits).max(row(&batch.teacher_logits));
    pieces(batch.rows(), widest.max(4 * batch.classes()), most)
}

/// A batch on the device.
pub(super) struct Uploaded {
    student: wgpu::Buffer,
    teacher: wgpu::Buffer,
    labels: wgpu::Buffer,
}

impl Uploaded {
    pub fn new(gpu: &Gpu, encoder: &mut wgpu::CommandEncoder, batch: &Batch<'_>) -> Result<Self> {
        let all = 0..batch.rows();
        let mut make = |name, bytes| {
            let usage = wgpu::BufferUsages::STORAGE;
            upload(&gpu.device, encoder, name, bytes, usage)
        };
        Ok(Self {
            student: make("student_logits", rows_of(&batch.student_logits, &all))?,
            teacher: make("teacher_logits", rows_of(&teacher_of(batch), &all))?,
            labels: make("labels", bytemuck::cast_slice(batch.labels))?,
        })
    }

    pub fn batch<'a>(&'a self, batch: &Batch<'_>) -> GpuBatch<'a> {
        GpuBatch {
            rows: batch.rows(),
            student_logits: on(&self.student, &batch.student_logits),
            teacher_logits: on(&self.teacher, &teacher_of(batch)),
            labels: GpuSlice {
                buffer: &self.labels,
                offset: 0,
            },
        }
    }
}

impl Gpu {
    /// Bytes of the largest buffer that a slice is uploaded to.
    pub(super) fn piece_bytes(&self) -> u64 {
        self.limits.buffer_bytes.min(1 << 31) / 2
    }

    /// The limits under which whatever can be bound fits a buffer of its own as well, with the other results on their way back.
    fn own_limits(&self) -> Limits {
        let buffer = self.limits.buffer_bytes.saturating_sub(64);
        Limits {
            binding_bytes: self.limits.binding_bytes.min(buffer),
            ..self.limits
        }
    }

    /// Bytes of a piece that one dispatch can bind whole.
    pub(super) fn bound_bytes(&self) -> u64 {
        self.own_limits().room() / 2
    }

    /// Whether pieces of so many rows can be planned, before any is uploaded. As a step on its own, its rows are not cut.
    ///
    /// # Errors
    /// What the plan is refused for: a row that no binding, or no buffer, holds.
    pub(super) fn check_piece(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        rows: usize,
        gradient: Option<Storage>,
        on_its_own: bool,
    ) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let matrix = |storage, row_stride| Matrix {
            storage,
            row_stride,
            offset: 0,
            buffer_bytes: u64::MAX,
        };
        let of = |logits: &Logits<'_>| matrix(logits.values.storage(), logits.row_stride);
        let problem = Problem {
            rows,
            classes: batch.classes(),
            teacher_classes: teacher_of(batch).classes,
            student: of(&batch.student_logits),
            teacher: of(&batch.teacher_logits),
            gradient: gradient.map(|storage| matrix(storage, batch.classes())),
            shared_buffers: false,
            in_place: false,
        };
        let mut tiling = Tiling::for_shape(rows, batch.classes(), &self.limits);
        if on_its_own {
            tiling.segments = 1;
        }
        Plan::with_tiling(config, &problem, &self.own_limits(), &tiling).map(drop)
    }
}
