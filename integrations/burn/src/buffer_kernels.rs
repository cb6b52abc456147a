//! The pipelines of wgpu-distill on Burn's buffers, on a device that both share.

use std::any::Any;

use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::wgpu::{AutoCompiler, WgpuResource, WgpuServer};
use wgpu_distill::Storage;
use wgpu_distill::gpu::{GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use wgpu_distill::wgpu::CommandEncoderDescriptor;

use crate::error::{Error, Result};
use crate::kernel_outputs::KernelOutputs;
use crate::kernel_tensors::{KernelTensors, Room, row_stride};
use crate::loss_call::LossCall;
use crate::matrix::storage;
use crate::shared_device;

/// The buffer of a tensor. Burn neither moves nor reuses its memory while this exists.
struct TensorBuffer {
    resource: WgpuResource,
    _guard: Box<dyn Any>,
}

impl TensorBuffer {
    /// Submits Burn's pending work on the tensor, so that later submissions see its values.
    fn of(name: &'static str, tensor: &CubeTensor) -> Result<Self> {
        let handle = tensor.handle.clone();
        let managed = tensor
            .client
            .get_resource::<WgpuServer<AutoCompiler>>(handle);
        let managed = managed.map_err(|error| Error::Runtime {
            name,
            reason: error.to_string(),
        })?;
        Ok(Self {
            resource: managed.resource().clone(),
            _guard: Box::new(managed),
        })
    }

    fn slice(&self) -> GpuSlice<'_> {
        GpuSlice {
            buffer: &self.resource.buffer,
            offset: self.resource.offset,
        }
    }

    /// The aligned part of a room, and its bytes after the room's start.
    fn aligned(&self, room: &Room) -> (GpuSlice<'_>, u64) {
        let GpuSlice { buffer, offset } = self.slice();
        let aligned = offset.next_multiple_of(room.alignment);
        let slice = GpuSlice {
            buffer,
            offset: aligned,
        };
        (slice, aligned - offset)
    }

    fn logits(&self, tensor: &CubeTensor) -> GpuLogits<'_> {
        let GpuSlice { buffer, offset } = self.slice();
        let classes = tensor.meta.shape()[1];
        GpuLogits {
            buffer,
            offset,
            storage: storage(tensor.dtype).unwrap_or(Storage::F32),
            classes,
            row_stride: row_stride(tensor).unwrap_or(classes),
        }
    }
}

fn matrix<'a>(
    buffer: &'a Option<TensorBuffer>,
    tensor: &Option<CubeTensor>,
) -> Option<GpuLogits<'a>> {
    Some(buffer.as_ref()?.logits(tensor.as_ref()?))
}

pub(crate) fn distill(
    tensors: KernelTensors,
    call: &LossCall,
) -> Result<KernelOutputs<CubeBackend>> {
    let shared = shared_device::find(&tensors.student.device).ok_or_else(|| Error::Runtime {
        name: "student_logits",
        reason: "its device is not shared".to_owned(),
    })?;
    let student = TensorBuffer::of("student_logits", &tensors.student)?;
    let teacher = TensorBuffer::of("teacher_logits", &tensors.teacher)?;
    let labels = TensorBuffer::of("labels", &tensors.labels)?;
    let optional = |name, tensor: &Option<CubeTensor>| {
        let buffer = tensor.as_ref().map(|tensor| TensorBuffer::of(name, tensor));
        buffer.transpose()
    };
    let teacher_ids = optional("teacher_ids", &tensors.teacher_ids)?;
    let soft_labels = optional("soft_labels", &tensors.soft_labels)?;
    let row_weights = optional("row_weights", &tensors.row_weights)?;
    let class_weights = optional("class_weights", &tensors.class_weights)?;
    let rows = TensorBuffer::of("row results", &tensors.rows.tensor)?;
    let summary = TensorBuffer::of("summary", &tensors.summary.tensor)?;
    let gradient = optional("gradient", &tensors.gradient)?;
    let (row_list, rows_offset) = rows.aligned(&tensors.rows);
    let (summary_slice, summary_offset) = summary.aligned(&tensors.summary);
    let batch = GpuBatch {
        rows: tensors.row_count(),
        student_logits: student.logits(&tensors.student),
        teacher_logits: teacher.logits(&tensors.teacher),
        labels: labels.slice().into(),
        soft_labels: matrix(&soft_labels, &tensors.soft_labels),
        row_weights: row_weights.as_ref().map(TensorBuffer::slice),
        class_weights: class_weights.as_ref().map(TensorBuffer::slice),
        teacher_ids: teacher_ids.as_ref().map(TensorBuffer::slice),
    };
    let outputs = GpuOutputs {
        summary: Some(summary_slice),
        row_results: (!tensors.row_metrics).then_some(row_list),
        row_metrics: tensors.row_metrics.then_some(row_list),
        gradient: matrix(&gradient, &tensors.gradient),
    };
    let gpu = &shared.gpu;
    let plan = gpu.plan(&call.config, &batch, &outputs)?;
    let workspace = shared.workspace(&plan);
    let mut encoder = gpu
        .device()
        .create_command_encoder(&CommandEncoderDescriptor {
            label: Some("burn-distill"),
        });
    gpu.encode_plan(
        &mut encoder,
        &plan,
        &call.config,
        call.progress,
        &batch,
        &outputs,
        Some(&workspace),
    )?;
    gpu.queue().submit([encoder.finish()]);
    drop((
        student,
        teacher,
        teacher_ids,
        labels,
        soft_labels,
        row_weights,
        class_weights,
        rows,
        summary,
        gradient,
    ));
    Ok(tensors.into_outputs([rows_offset, summary_offset]))
}
