//! Our pipelines on Burn's own buffers, on a device that both share.

use std::any::Any;

use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::wgpu::{AutoCompiler, WgpuResource, WgpuServer};
use wgpu_distill::gpu::{GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use wgpu_distill::wgpu::CommandEncoderDescriptor;
use wgpu_distill::{Error as CoreError, Storage};

use crate::cube::{Work, row_stride};
use crate::ops::Raw;
use crate::task::{Task, storage};
use crate::{Error, Result, share};

/// Where a tensor lies. Burn neither moves nor reuses that memory while this is held.
struct Place {
    resource: WgpuResource,
    _held: Box<dyn Any>,
}

impl Place {
    /// Submits Burn's earlier work on the tensor, so that ours comes after it on the queue.
    fn of(name: &'static str, tensor: &CubeTensor) -> Result<Self> {
        let handle = tensor.handle.clone();
        let found = tensor
            .client
            .get_resource::<WgpuServer<AutoCompiler>>(handle);
        let found = found.map_err(|error| Error::Runtime {
            name,
            reason: error.to_string(),
        })?;
        Ok(Self {
            resource: found.resource().clone(),
            _held: Box::new(found),
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

pub(crate) fn distill(work: Work, task: &Task) -> Result<Raw<CubeBackend>> {
    let shared = share::find(&work.student.device).ok_or_else(|| Error::Runtime {
        name: "student_logits",
        reason: "its device is not shared".to_owned(),
    })?;
    let student = Place::of("student_logits", &work.student)?;
    let teacher = Place::of("teacher_logits", &work.teacher)?;
    let labels = Place::of("labels", &work.labels)?;
    let rows = Place::of("row results", &work.rows)?;
    let summary = Place::of("summary", &work.summary)?;
    let gradient = match &work.gradient {
        Some(tensor) => Some((Place::of("gradient", tensor)?, tensor)),
        None => None,
    };
    let room = summary.slice();
    let aligned = room.offset.next_multiple_of(256);
    let batch = GpuBatch {
        rows: work.student.meta.shape()[0],
        student_logits: student.logits(&work.student),
        teacher_logits: teacher.logits(&work.teacher),
        labels: labels.slice(),
    };
    let outputs = GpuOutputs {
        summary: Some(GpuSlice {
            offset: aligned,
            ..room
        }),
        row_results: Some(rows.slice()),
        gradient: gradient.as_ref().map(|(place, t)| place.logits(t)),
    };
    let gpu = &shared.gpu;
    let plan = gpu.plan(&task.config, &batch, &outputs)?;
    let workspace = shared.workspace(&plan);
    let mut encoder = gpu
        .device()
        .create_command_encoder(&CommandEncoderDescriptor {
            label: Some("burn-distill"),
        });
    gpu.encode_plan(
        &mut encoder,
        &plan,
        &task.config,
        task.progress,
        &batch,
        &outputs,
        Some(&workspace),
    )
    .map_err(|error: CoreError| Error::Distill(error))?;
    gpu.queue().submit([encoder.finish()]);
    let offset = aligned - room.offset;
    drop((student, teacher, labels, rows, summary, gradient));
    Ok(work.finish(offset))
}
