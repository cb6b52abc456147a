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
use crate::kernel_tensors::{KernelTensors, SUMMARY_ALIGNMENT, row_stride};
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
    let rows = TensorBuffer::of("row results", &tensors.rows)?;
    let summary = TensorBuffer::of("summary", &tensors.summary)?;
    let gradient = match &tensors.gradient {
        Some(tensor) => Some((TensorBuffer::of("gradient", tensor)?, tensor)),
        None => None,
    };
    let room = summary.slice();
    let aligned = room.offset.next_multiple_of(SUMMARY_ALIGNMENT);
    let batch = GpuBatch {
        rows: tensors.row_count(),
        student_logits: student.logits(&tensors.student),
        teacher_logits: teacher.logits(&tensors.teacher),
        labels: labels.slice(),
        soft_labels: None,
        row_weights: None,
    };
    let outputs = GpuOutputs {
        summary: Some(GpuSlice {
            offset: aligned,
            ..room
        }),
        row_results: Some(rows.slice()),
        gradient: gradient.as_ref().map(|(buffer, t)| buffer.logits(t)),
        row_metrics: None,
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
    let summary_offset = aligned - room.offset;
    drop((student, teacher, labels, rows, summary, gradient));
    Ok(tensors.into_outputs(summary_offset))
}
