//! The kernels on CubeCL's buffers.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::ops::{ROW_WORDS, Raw, SUMMARY_WORDS};
use crate::task::{self, Task};
#[cfg(test)]
use crate::views;
use crate::{Error, Path, Result, buffers, source};

/// Bytes set aside for the summary: it starts at a multiple of 256 in its buffer, which CubeCL's own alignment does not promise.
pub(crate) const SUMMARY_ROOM: u64 = 512;
pub(crate) const SUMMARY_BYTES: u64 = 4 * SUMMARY_WORDS as u64;

pub(crate) fn distill(
    student: CubeTensor,
    teacher: CubeTensor,
    labels: CubeTensor,
    task: &Task,
    want_gradient: bool,
) -> Result<Raw<CubeBackend>> {
    if student.client.is_capturing() {
        return Err(Error::Capturing);
    }
    let work = Work::new(student, teacher, labels, want_gradient);
    match task.path {
        Path::SharedDevice => buffers::distill(work, task),
        _ => source::distill(work, task),
    }
}

/// Inputs whose rows can be read in place, and outputs that nothing was written to yet.
///
/// The outputs are allocated before anybody asks where a tensor lies: an allocation may move others.
pub(crate) struct Work {
    pub student: CubeTensor,
    pub teacher: CubeTensor,
    /// `i32 [rows]`
    pub labels: CubeTensor,
    /// `f32 [rows, 4]`
    pub rows: CubeTensor,
    /// `f32 [128]`, room for 8 at some offset.
    pub summary: CubeTensor,
    /// `[rows, classes]`
    pub gradient: Option<CubeTensor>,
}

impl Work {
    fn new(
        student: CubeTensor,
        teacher: CubeTensor,
        labels: CubeTensor,
        want_gradient: bool,
    ) -> Self {
        let student = in_rows(student);
        let teacher = in_rows(teacher);
        let labels = into_contiguous(labels);
        #[cfg(test)]
        for tensor in [&student, &teacher, &labels] {
            views::saw(tensor);
        }
        let empty = |shape: Shape, dtype| {
            let (client, device) = (student.client.clone(), student.device.clone());
            empty_device_contiguous_dtype(client, device, shape, dtype)
        };
        let shape = student.shape();
        Self {
            rows: empty([shape[0], ROW_WORDS].into(), DType::F32),
            summary: empty([SUMMARY_ROOM as usize / 4].into(), DType::F32),
            gradient: want_gradient.then(|| empty(shape.clone(), student.dtype)),
            student,
            teacher,
            labels,
        }
    }

    /// The outputs as tensors, with the summary at this byte of its room.
    pub fn finish(self, summary_offset: u64) -> Raw<CubeBackend> {
        let summary = self.summary;
        let handle = summary
            .handle
            .offset_start(summary_offset)
            .offset_end(SUMMARY_ROOM - SUMMARY_BYTES - summary_offset);
        let words = |dtype| {
            CubeTensor::new_contiguous(
                summary.client.clone(),
                summary.device.clone(),
                [SUMMARY_WORDS].into(),
                handle.clone(),
                dtype,
            )
        };
        Raw {
            rows: self.rows,
            summary: words(DType::F32),
            counts: words(DType::I32),
            gradient: self.gradient,
        }
    }
}

pub(crate) fn row_stride(tensor: &CubeTensor) -> Option<usize> {
    if tensor.meta.is_tiled() {
        return None;
    }
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    let strides = [strides[0].cast_signed(), strides[1].cast_signed()];
    task::row_stride([shape[0], shape[1]], strides)
}

/// The tensor as it is, if its rows can be read in place; else a copy.
fn in_rows(tensor: CubeTensor) -> CubeTensor {
    match row_stride(&tensor) {
        Some(_) => tensor,
        None => into_contiguous(tensor),
    }
}
