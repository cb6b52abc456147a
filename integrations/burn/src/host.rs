//! The CPU kernels on the memory of Burn's flex backend.

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorData, TensorMetadata};
use burn::tensor::{Bytes, DType};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{Batch, Gradient, Logits, Outputs, Values};

use crate::Result;
use crate::ops::{ROW_WORDS, Raw, SUMMARY_WORDS};
use crate::task::{self, Task, storage};

pub(crate) fn distill(
    student: FlexTensor,
    teacher: FlexTensor,
    labels: FlexTensor,
    task: &Task,
    want_gradient: bool,
) -> Result<Raw<Flex>> {
    let (student, teacher) = (in_rows(student), in_rows(teacher));
    let labels = labels.to_contiguous();
    let rows = student.shape()[0];
    let classes = student.shape()[1];
    let batch = Batch {
        student_logits: logits(&student),
        teacher_logits: logits(&teacher),
        labels: &labels.as_slice::<i32>().unwrap_or_default()[..rows],
    };
    let outputs = Outputs {
        rows: true,
        gradient: storage(student.dtype()).filter(|_| want_gradient),
    };
    let done = Cpu::new().run(&task.config, task.progress, &batch, outputs)?;
    let results = bytemuck::cast_slice::<_, f32>(&done.rows).to_vec();
    let summary: [u32; SUMMARY_WORDS] = bytemuck::cast(done.summary);
    let floats = summary.map(f32::from_bits).to_vec();
    let counts = summary.map(u32::cast_signed).to_vec();
    let gradient = done.gradient.map(|gradient| {
        let (bytes, dtype) = match gradient {
            Gradient::F32(v) => (Bytes::from_elems(v), DType::F32),
            Gradient::F16(v) => (Bytes::from_elems(v), DType::F16),
            Gradient::Bf16(v) => (Bytes::from_elems(v), DType::BF16),
        };
        FlexTensor::from_data(TensorData::from_bytes(bytes, [rows, classes], dtype))
    });
    Ok(Raw {
        rows: FlexTensor::from_data(TensorData::new(results, [rows, ROW_WORDS])),
        summary: FlexTensor::from_data(TensorData::new(floats, [SUMMARY_WORDS])),
        counts: FlexTensor::from_data(TensorData::new(counts, [SUMMARY_WORDS])),
        gradient,
    })
}

fn row_stride(tensor: &FlexTensor) -> Option<usize> {
    let (shape, strides) = (tensor.shape(), tensor.layout().strides());
    task::row_stride([shape[0], shape[1]], [strides[0], strides[1]])
}

/// The tensor as it is, if its rows can be read in place; else a copy.
fn in_rows(tensor: FlexTensor) -> FlexTensor {
    match row_stride(&tensor) {
        Some(_) => tensor,
        None => tensor.to_contiguous(),
    }
}

fn logits(tensor: &FlexTensor) -> Logits<'_> {
    let classes = tensor.shape()[1];
    let start = tensor.layout().start_offset();
    let values = match tensor.dtype() {
        DType::F16 => Values::F16(&tensor.storage()[start..]),
        DType::BF16 => Values::Bf16(&tensor.storage()[start..]),
        _ => Values::F32(&tensor.storage()[start..]),
    };
    Logits {
        values,
        classes,
        row_stride: row_stride(tensor).unwrap_or(classes),
    }
}
