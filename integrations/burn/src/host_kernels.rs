//! The CPU kernels on the memory of Burn's flex backend.

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorData, TensorMetadata};
use burn::tensor::{Bytes, DType};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{Batch, Gradient, Logits, Outputs, Summary, Values};

use crate::error::Result;
use crate::kernel_inputs::{KernelInputs, Optional};
use crate::kernel_outputs::{KernelOutputs, METRIC_WORDS, RESULT_WORDS, SUMMARY_WORDS, row_words};
use crate::loss_call::LossCall;
use crate::matrix::{self, storage};

/// Inputs whose rows the CPU path can read.
pub(crate) struct HostInputs {
    student: FlexTensor,
    teacher: FlexTensor,
    teacher_ids: Option<FlexTensor>,
    labels: FlexTensor,
    soft_labels: Option<FlexTensor>,
    row_weights: Option<FlexTensor>,
    class_weights: Option<FlexTensor>,
}

impl HostInputs {
    pub fn new(inputs: KernelInputs<Flex>) -> Self {
        let contiguous = |weights: Optional<Flex>| weights.tensor().map(|w| w.to_contiguous());
        Self {
            student: in_rows(inputs.student),
            teacher: in_rows(inputs.teacher),
            teacher_ids: inputs.teacher_ids.tensor().map(|ids| ids.to_contiguous()),
            labels: inputs.labels.to_contiguous(),
            soft_labels: inputs.soft_labels.tensor().map(in_rows),
            row_weights: contiguous(inputs.row_weights),
            class_weights: contiguous(inputs.class_weights),
        }
    }

    /// `[rows, classes]`
    pub fn shape(&self) -> [usize; 2] {
        [self.student.shape()[0], self.student.shape()[1]]
    }

    pub fn batch(&self) -> Batch<'_> {
        let [rows, classes] = self.shape();
        let k = self.teacher.shape()[1];
        Batch {
            student_logits: logits(&self.student),
            teacher_logits: logits(&self.teacher),
            labels: &self.labels.as_slice::<i32>().unwrap_or_default()[..rows],
            soft_labels: self.soft_labels.as_ref().map(logits),
            row_weights: self.row_weights.as_ref().map(|w| floats(w, rows)),
            class_weights: self.class_weights.as_ref().map(|w| floats(w, classes)),
            teacher_ids: self
                .teacher_ids
                .as_ref()
                .map(|ids| &ids.as_slice::<i32>().unwrap_or_default()[..rows * k]),
        }
    }
}

/// The inputs have at least one row.
pub(crate) fn distill(
    inputs: KernelInputs<Flex>,
    call: &LossCall,
    want_gradient: bool,
) -> Result<KernelOutputs<Flex>> {
    let inputs = HostInputs::new(inputs);
    let [rows, classes] = inputs.shape();
    let gradient_type = call.gradient_type(inputs.student.dtype());
    let outputs = Outputs {
        rows: true,
        gradient: storage(gradient_type).filter(|_| want_gradient),
        metrics: call.row_metrics,
    };
    let batch = inputs.batch();
    let results = Cpu::new().run(&call.config, call.progress, &batch, outputs)?;
    let words = row_words(call.row_metrics);
    let mut row_values = Vec::with_capacity(rows * words);
    for (row, result) in results.rows.iter().enumerate() {
        row_values.extend(bytemuck::cast::<_, [f32; RESULT_WORDS]>(*result));
        if let Some(metrics) = results.metrics.get(row) {
            row_values.extend(bytemuck::cast::<_, [f32; METRIC_WORDS]>(*metrics));
        }
    }
    let [floats, counts] = summary_tensors(results.summary);
    let gradient = results.gradient.map(|gradient| {
        let (bytes, dtype) = match gradient {
            Gradient::F32(v) => (Bytes::from_elems(v), DType::F32),
            Gradient::F16(v) => (Bytes::from_elems(v), DType::F16),
            Gradient::Bf16(v) => (Bytes::from_elems(v), DType::BF16),
        };
        FlexTensor::from_data(TensorData::from_bytes(bytes, [rows, classes], dtype))
    });
    Ok(KernelOutputs {
        rows: FlexTensor::from_data(TensorData::new(row_values, [rows, words])),
        summary: floats,
        counts,
        gradient,
    })
}

/// The words of a summary, as f32 and as i32.
pub(crate) fn summary_tensors(summary: Summary) -> [FlexTensor; 2] {
    let words: [u32; SUMMARY_WORDS] = bytemuck::cast(summary);
    let floats = words.map(f32::from_bits).to_vec();
    let counts = words.map(u32::cast_signed).to_vec();
    [
        FlexTensor::from_data(TensorData::new(floats, [SUMMARY_WORDS])),
        FlexTensor::from_data(TensorData::new(counts, [SUMMARY_WORDS])),
    ]
}

fn row_stride(tensor: &FlexTensor) -> Option<usize> {
    let (shape, strides) = (tensor.shape(), tensor.layout().strides());
    matrix::row_stride([shape[0], shape[1]], [strides[0], strides[1]])
}

/// The tensor itself if the kernels can read its rows without a copy, otherwise a contiguous copy.
fn in_rows(tensor: FlexTensor) -> FlexTensor {
    match row_stride(&tensor) {
        Some(_) => tensor,
        None => tensor.to_contiguous(),
    }
}

fn floats(tensor: &FlexTensor, count: usize) -> &[f32] {
    &tensor.as_slice::<f32>().unwrap_or_default()[..count]
}

fn logits(tensor: &FlexTensor) -> Logits<'_> {
    let (rows, classes) = (tensor.shape()[0], tensor.shape()[1]);
    let row_stride = row_stride(tensor).unwrap_or(classes);
    let start = tensor.layout().start_offset();
    // A view's storage may continue after its last row.
    let elements = start..start + (rows - 1) * row_stride + classes;
    let values = match tensor.dtype() {
        DType::F16 => Values::F16(&tensor.storage()[elements]),
        DType::BF16 => Values::Bf16(&tensor.storage()[elements]),
        _ => Values::F32(&tensor.storage()[elements]),
    };
    Logits {
        values,
        classes,
        row_stride,
    }
}
