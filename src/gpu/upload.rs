//! Copies a batch and the gradient's previous contents to the device.

use super::buffers::{GpuBatch, GpuLogits, GpuSlice};
use super::memory::{Upload, upload};
use super::row_ranges::{rows_of, teacher_of};
use crate::{Batch, GradientMut, Logits, Result, ValuesMut};

/// A batch on the device.
pub(super) struct UploadedBatch {
    student: wgpu::Buffer,
    teacher: wgpu::Buffer,
    teacher_ids: Option<wgpu::Buffer>,
    labels: wgpu::Buffer,
    soft_labels: Option<wgpu::Buffer>,
    row_weights: Option<wgpu::Buffer>,
    class_weights: Option<wgpu::Buffer>,
}

impl UploadedBatch {
    pub fn new(
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        batch: &Batch<'_>,
    ) -> Result<Self> {
        let all = 0..batch.rows();
        let mut make = |label, bytes| {
            let usage = wgpu::BufferUsages::STORAGE;
            upload(device, encoder, label, bytes, usage)
        };
        Ok(Self {
            student: make("student_logits", rows_of(&batch.student_logits, &all))?,
            teacher: make("teacher_logits", rows_of(&teacher_of(batch), &all))?,
            teacher_ids: match batch.teacher_ids {
                Some(ids) => Some(make("teacher_ids", bytemuck::cast_slice(ids))?),
                None => None,
            },
            labels: make("labels", bytemuck::cast_slice(batch.labels))?,
            soft_labels: match &batch.soft_labels {
                Some(soft_labels) => Some(make("soft_labels", rows_of(soft_labels, &all))?),
                None => None,
            },
            row_weights: match batch.row_weights {
                Some(weights) => Some(make("row_weights", bytemuck::cast_slice(weights))?),
                None => None,
            },
            class_weights: match batch.class_weights {
                Some(weights) => Some(make("class_weights", bytemuck::cast_slice(weights))?),
                None => None,
            },
        })
    }

    pub fn batch<'a>(&'a self, batch: &Batch<'_>) -> GpuBatch<'a> {
        let matrix = |buffer, logits: &Logits<'_>| GpuLogits {
            buffer,
            offset: 0,
            storage: logits.values.storage(),
            classes: logits.classes,
            row_stride: logits.row_stride,
        };
        let at = |buffer| GpuSlice { buffer, offset: 0 };
        GpuBatch {
            rows: batch.rows(),
            student_logits: matrix(&self.student, &batch.student_logits),
            teacher_logits: matrix(&self.teacher, &teacher_of(batch)),
            teacher_ids: self.teacher_ids.as_ref().map(at),
            labels: at(&self.labels).into(),
            soft_labels: (self.soft_labels.as_ref().zip(batch.soft_labels.as_ref()))
                .map(|(buffer, soft_labels)| matrix(buffer, soft_labels)),
            row_weights: self.row_weights.as_ref().map(at),
            class_weights: self.class_weights.as_ref().map(at),
        }
    }
}

/// A gradient buffer `[rows, classes]` without gaps, with the contents of `gradient`.
pub(super) fn upload_gradient(
    device: &wgpu::Device,
    encoder: &mut wgpu::CommandEncoder,
    gradient: &mut GradientMut<'_>,
    rows: usize,
) -> Result<wgpu::Buffer> {
    let row_bytes = gradient.classes * gradient.values.storage().bytes();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let upload = Upload::filled(device, "gradient", rows * row_bytes, usage, |fill| {
        for row in 0..rows {
            fill(row * row_bytes, bytes_of(gradient.row(row)));
        }
    })?;
    upload.record(encoder);
    Ok(upload.buffer)
}

/// The bytes of numbers in memory.
pub(super) fn bytes_of(values: ValuesMut<'_>) -> &mut [u8] {
    match values {
        ValuesMut::F32(v) => bytemuck::cast_slice_mut(v),
        ValuesMut::F16(v) => bytemuck::cast_slice_mut(v),
        ValuesMut::Bf16(v) => bytemuck::cast_slice_mut(v),
    }
}
