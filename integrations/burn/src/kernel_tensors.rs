//! The tensors of a call in CubeCL's memory: inputs that the kernels can read, and allocated outputs.

#[cfg(test)]
use std::sync::Mutex;

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::kernel_outputs::{KernelOutputs, ROW_WORDS, SUMMARY_WORDS};
use crate::matrix;

/// The summary starts at a multiple of this many bytes in its buffer. CubeCL's allocator may align to less.
pub(crate) const SUMMARY_ALIGNMENT: u64 = 256;
const SUMMARY_BYTES: u64 = 4 * SUMMARY_WORDS as u64;
/// Bytes allocated for the summary: enough for one at an aligned offset.
const SUMMARY_ROOM: u64 = 2 * SUMMARY_ALIGNMENT;

/// Row stride in elements (0 for labels) and offset in bytes of each input since the list was cleared.
#[cfg(test)]
pub(crate) static INPUT_VIEWS: Mutex<Vec<(usize, u64)>> = Mutex::new(Vec::new());

/// Inputs whose rows the kernels can read, and outputs that hold no values yet.
///
/// CubeCL may move a tensor when it allocates another. All outputs are therefore allocated before any address is read.
pub(crate) struct KernelTensors {
    pub student: CubeTensor,
    pub teacher: CubeTensor,
    /// `i32 [rows]`
    pub labels: CubeTensor,
    /// `f32 [rows, ROW_WORDS]`
    pub rows: CubeTensor,
    /// `f32 [SUMMARY_ROOM / 4]`
    pub summary: CubeTensor,
    /// `[rows, classes]`
    pub gradient: Option<CubeTensor>,
}

impl KernelTensors {
    pub fn new(
        student: CubeTensor,
        teacher: CubeTensor,
        labels: CubeTensor,
        want_gradient: bool,
    ) -> Self {
        let student = in_rows(student);
        let teacher = in_rows(teacher);
        let labels = into_contiguous(labels);
        #[cfg(test)]
        record_views([&student, &teacher, &labels]);
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

    pub fn row_count(&self) -> usize {
        self.student.meta.shape()[0]
    }

    /// The outputs. The summary lies `summary_offset` bytes after the start of its tensor.
    pub fn into_outputs(self, summary_offset: u64) -> KernelOutputs<CubeBackend> {
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
        KernelOutputs {
            rows: self.rows,
            summary: words(DType::F32),
            counts: words(DType::I32),
            gradient: self.gradient,
        }
    }
}

/// Elements from one row to the next; `None` if the kernels cannot read the rows without a copy.
pub(crate) fn row_stride(tensor: &CubeTensor) -> Option<usize> {
    if tensor.meta.is_tiled() {
        return None;
    }
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    let strides = [strides[0].cast_signed(), strides[1].cast_signed()];
    matrix::row_stride([shape[0], shape[1]], strides)
}

/// The tensor itself if the kernels can read its rows without a copy, otherwise a contiguous copy.
fn in_rows(tensor: CubeTensor) -> CubeTensor {
    match row_stride(&tensor) {
        Some(_) => tensor,
        None => into_contiguous(tensor),
    }
}

#[cfg(test)]
fn record_views(inputs: [&CubeTensor; 3]) {
    let views = inputs.map(|tensor| {
        let stride = match tensor.meta.shape().len() {
            2 => row_stride(tensor).expect("rows are in place"),
            _ => 0,
        };
        (stride, tensor.handle.offset_start.unwrap_or(0))
    });
    INPUT_VIEWS.lock().expect("no test panicked").extend(views);
}
