//! The tensors of a call in CubeCL's memory: inputs that the kernels can read, and allocated outputs.

#[cfg(test)]
use std::sync::Mutex;

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::kernel_inputs::KernelInputs;
use crate::kernel_outputs::{KernelOutputs, SUMMARY_WORDS, row_words};
use crate::loss_call::LossCall;
use crate::matrix;

/// Row stride in elements (0 for lists) and offset in bytes of each input since the list was cleared.
#[cfg(test)]
pub(crate) static INPUT_VIEWS: Mutex<Vec<(usize, u64)>> = Mutex::new(Vec::new());

/// Inputs whose rows the kernels can read, and outputs that hold no values yet.
///
/// CubeCL may move a tensor when it allocates another. All outputs are therefore allocated before any address is read.
pub(crate) struct KernelTensors {
    pub student: CubeTensor,
    pub teacher: CubeTensor,
    /// `i32 [rows * classes of the teacher]`
    pub teacher_ids: Option<CubeTensor>,
    /// `i32 [rows]`
    pub labels: CubeTensor,
    /// `[rows, classes]`
    pub soft_labels: Option<CubeTensor>,
    /// `f32 [rows]`
    pub row_weights: Option<CubeTensor>,
    /// `f32 [classes]`
    pub class_weights: Option<CubeTensor>,
    /// `f32 [rows, row_words(..)]`
    pub rows: Room,
    /// True if the rows have metrics.
    pub row_metrics: bool,
    /// `f32 [SUMMARY_WORDS]`
    pub summary: Room,
    /// `[rows, classes]`
    pub gradient: Option<CubeTensor>,
}

/// Room for an output that starts at a multiple of `alignment` bytes in its buffer. CubeCL's allocator may align to less.
pub(crate) struct Room {
    /// `f32`, as long as the output and `alignment` bytes more.
    pub tensor: CubeTensor,
    pub alignment: u64,
    shape: Shape,
}

impl Room {
    /// The output, `offset` bytes after the start of its tensor.
    fn output(&self, offset: u64, dtype: DType) -> CubeTensor {
        let tensor = &self.tensor;
        let handle = tensor.handle.clone().offset_start(offset);
        CubeTensor::new_contiguous(
            tensor.client.clone(),
            tensor.device.clone(),
            self.shape.clone(),
            handle.offset_end(self.alignment - offset),
            dtype,
        )
    }
}

impl KernelTensors {
    pub fn new(inputs: KernelInputs<CubeBackend>, call: &LossCall, want_gradient: bool) -> Self {
        let row_metrics = call.row_metrics;
        let student = in_rows(inputs.student);
        let teacher = in_rows(inputs.teacher);
        let teacher_ids = inputs.teacher_ids.tensor().map(into_contiguous);
        let labels = into_contiguous(inputs.labels);
        let soft_labels = inputs.soft_labels.tensor().map(in_rows);
        let row_weights = inputs.row_weights.tensor().map(into_contiguous);
        let class_weights = inputs.class_weights.tensor().map(into_contiguous);
        #[cfg(test)]
        record_views(
            [&student, &teacher, &labels]
                .into_iter()
                .chain(&teacher_ids)
                .chain(&soft_labels)
                .chain(&row_weights)
                .chain(&class_weights),
        );
        let empty = |shape: Shape, dtype| {
            let (client, device) = (student.client.clone(), student.device.clone());
            empty_device_contiguous_dtype(client, device, shape, dtype)
        };
        let room = |shape: Shape, alignment: u64| {
            let words = shape.num_elements() + alignment as usize / 4;
            Room {
                tensor: empty([words].into(), DType::F32),
                alignment,
                shape,
            }
        };
        let shape = student.shape();
        let words = row_words(row_metrics);
        Self {
            // Rows start at multiples of their size.
            rows: room([shape[0], words].into(), 4 * words as u64),
            summary: room([SUMMARY_WORDS].into(), 256),
            gradient: want_gradient
                .then(|| empty(shape.clone(), call.gradient_type(student.dtype))),
            student,
            teacher,
            teacher_ids,
            labels,
            soft_labels,
            row_weights,
            class_weights,
            row_metrics,
        }
    }

    pub fn row_count(&self) -> usize {
        self.student.meta.shape()[0]
    }

    /// The outputs. Rows and summary lie at these bytes after the starts of their tensors.
    pub fn into_outputs(self, [rows, summary]: [u64; 2]) -> KernelOutputs<CubeBackend> {
        KernelOutputs {
            rows: self.rows.output(rows, DType::F32),
            summary: self.summary.output(summary, DType::F32),
            counts: self.summary.output(summary, DType::I32),
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
fn record_views<'a>(inputs: impl IntoIterator<Item = &'a CubeTensor>) {
    let views = inputs.into_iter().map(|tensor| {
        let stride = match tensor.meta.shape().len() {
            2 => row_stride(tensor).expect("rows are in place"),
            _ => 0,
        };
        (stride, tensor.handle.offset_start.unwrap_or(0))
    });
    INPUT_VIEWS.lock().expect("no test panicked").extend(views);
}
