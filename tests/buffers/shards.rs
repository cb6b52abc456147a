//! A case whose columns lie on several devices: here parts of the same buffers, whose other columns must stay as they are.

use std::ops::Range;

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, GpuShard, GpuShardStats, GpuSlice};
use wgpu_distill::{RowStats, Shard, SweepSums, wgpu};

use crate::cases::Case;

/// The columns of a matrix.
fn cut<'a>(logits: &GpuLogits<'a>, columns: &Range<usize>) -> GpuLogits<'a> {
    GpuLogits {
        offset: logits.offset + (columns.start * logits.storage.bytes()) as u64,
        classes: columns.len(),
        ..*logits
    }
}

/// The part of the batch that one device has.
fn slice<'a>(batch: &GpuBatch<'a>, columns: &Range<usize>, sampled: bool) -> GpuBatch<'a> {
    GpuBatch {
        student_logits: cut(&batch.student_logits, columns),
        teacher_logits: match sampled {
            true => batch.teacher_logits,
            false => cut(&batch.teacher_logits, columns),
        },
        soft_labels: batch.soft_labels.map(|y| cut(&y, columns)),
        ..*batch
    }
}

/// A list of records that each device writes, and the lists of all devices one behind the other.
struct Gathered {
    own: wgpu::Buffer,
    all: wgpu::Buffer,
    bytes: u64,
}

impl Gathered {
    fn new(gpu: &Gpu, bytes: usize, shards: usize) -> Self {
        let buffer = |size: usize| {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: size as u64,
                usage: wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        Self {
            own: buffer(256 + bytes),
            all: buffer(512 + bytes * shards),
            bytes: bytes as u64,
        }
    }

    fn own(&self) -> GpuSlice<'_> {
        GpuSlice {
            buffer: &self.own,
            offset: 256,
        }
    }

    fn all(&self) -> GpuSlice<'_> {
        GpuSlice {
            buffer: &self.all,
            offset: 512,
        }
    }

    /// Stands for the collective of the devices.
    fn gather(&self, encoder: &mut wgpu::CommandEncoder, shard: usize) {
        let at = 512 + self.bytes * shard as u64;
        encoder.copy_buffer_to_buffer(&self.own, 256, &self.all, at, self.bytes);
    }
}

/// Records the steps of all devices.
pub fn encode(
    gpu: &Gpu,
    encoder: &mut wgpu::CommandEncoder,
    case: &Case,
    (batch, outputs): (&GpuBatch<'_>, &GpuOutputs<'_>),
    cuts: &[Range<usize>],
) -> wgpu_distill::Result<()> {
    let (config, rows) = (&case.config, case.rows);
    let device = |columns: &Range<usize>| GpuShard {
        shard: Shard::new(columns.start, case.classes),
        batch: slice(batch, columns, config.divergence.is_sampled()),
        outputs: GpuOutputs {
            gradient: outputs.gradient.map(|g| cut(&g, columns)),
            ..*outputs
        },
    };
    let devices: Vec<_> = cuts.iter().map(device).collect();
    let stats = Gathered::new(gpu, size_of::<RowStats>() * rows, cuts.len());
    let sums = Gathered::new(gpu, size_of::<SweepSums>() * rows, cuts.len());
    for (i, own) in devices.iter().enumerate() {
        gpu.encode_observe_shard(encoder, config, own, stats.own(), None)?;
        stats.gather(encoder, i);
    }
    let mut gathered = GpuShardStats {
        shards: cuts.len(),
        row_stats: stats.all(),
        sweep_sums: None,
    };
    if config.sweeps_twice() {
        for (i, own) in devices.iter().enumerate() {
            gpu.encode_sweep_shard(encoder, config, own, &gathered, sums.own(), None)?;
            sums.gather(encoder, i);
        }
        gathered.sweep_sums = Some(sums.all());
    }
    for own in &devices {
        gpu.encode_apply_shard(encoder, config, case.progress, own, &gathered, None)?;
    }
    Ok(())
}
