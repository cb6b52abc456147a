//! The caller's buffers: matrices, lists, batches and outputs.

use crate::plan::{LabelType, List, Lists, Matrix, Operand, ShardLists, ShardStep};
use crate::{Shard, Storage};

/// A list in a buffer of the context's device.
#[derive(Clone, Copy, Debug)]
pub struct GpuSlice<'a> {
    /// The buffer, with usage `STORAGE`.
    pub buffer: &'a wgpu::Buffer,
    /// Bytes from the buffer's start to the first item: a multiple of 4 for those of a [`GpuBatch`], of 16 for
    /// [`GpuOutputs::row_results`], of 64 for [`GpuOutputs::row_metrics`] and of 256 for [`GpuOutputs::summary`].
    pub offset: u64,
}

impl GpuSlice<'_> {
    fn list(&self) -> List {
        List {
            offset: self.offset,
            buffer_bytes: self.buffer.size(),
        }
    }
}

/// Labels in a buffer of the context's device. A list of `i32` converts into it.
#[derive(Clone, Copy, Debug)]
pub struct GpuLabels<'a> {
    /// At a multiple of the bytes of a label.
    pub slice: GpuSlice<'a>,
    /// The type of a label.
    pub label_type: LabelType,
}

impl<'a> GpuLabels<'a> {
    /// Labels of 64 bits, as frameworks hold them. Those that 32 bits do not hold are out of range.
    pub fn i64(slice: GpuSlice<'a>) -> Self {
        Self {
            slice,
            label_type: LabelType::I64,
        }
    }
}

impl<'a> From<GpuSlice<'a>> for GpuLabels<'a> {
    fn from(slice: GpuSlice<'a>) -> Self {
        Self {
            slice,
            label_type: LabelType::I32,
        }
    }
}

/// A matrix `[rows, classes]` in a buffer. Row `r` starts `r * row_stride` elements after `offset`.
#[derive(Clone, Copy, Debug)]
pub struct GpuLogits<'a> {
    /// The buffer, with usage `STORAGE`, of the context's device. wgpu reports a buffer that is destroyed, mapped or of another device
    /// to the device's error handler. A buffer of another *instance* makes wgpu panic, or use a different buffer.
    pub buffer: &'a wgpu::Buffer,
    /// Bytes from the buffer's start to row 0, a multiple of the element's size. Multiples of 16 are fastest.
    pub offset: u64,
    /// The storage type of the elements.
    pub storage: Storage,
    /// Elements of a row.
    pub classes: usize,
    /// Elements from row to row, at least `classes`. Multiples of 4 are fastest.
    pub row_stride: usize,
}

impl<'a> GpuLogits<'a> {
    /// A matrix without gaps between rows, at the start of a buffer.
    pub fn new(buffer: &'a wgpu::Buffer, storage: Storage, classes: usize) -> Self {
        Self {
            buffer,
            offset: 0,
            storage,
            classes,
            row_stride: classes,
        }
    }

    pub(super) fn matrix(&self) -> Matrix {
        Matrix {
            storage: self.storage,
            row_stride: self.row_stride,
            offset: self.offset,
            buffer_bytes: self.buffer.size(),
        }
    }
}

/// A batch in buffers: logits of student and teacher, and one label per row.
#[derive(Clone, Copy, Debug)]
pub struct GpuBatch<'a> {
    /// Rows of the batch.
    pub rows: usize,
    /// `[rows, classes]`
    pub student_logits: GpuLogits<'a>,
    /// `[rows, classes]`. For [`Divergence::K1`](crate::Divergence::K1), `K2` and `K3` `[rows, 1]`: the teacher's log-probability of the label.
    ///
    /// With `teacher_ids` `[rows, k]`: the log-probabilities of the listed classes.
    pub teacher_logits: GpuLogits<'a>,
    /// `i32 [rows, k]` without gaps, at a multiple of 4 bytes: [`Batch::teacher_ids`](crate::Batch::teacher_ids). An entry that is no class
    /// and not -1 is no error on buffers: its row counts as a row with NaN among its logits. Of a class that a row has twice, the first
    /// entry counts.
    pub teacher_ids: Option<GpuSlice<'a>>,
    /// `[rows]`. A label out of range is no error on buffers: loss and gradient of its row become NaN, and the summary counts it.
    pub labels: GpuLabels<'a>,
    /// `[rows, classes]`: [`Batch::soft_labels`](crate::Batch::soft_labels). A number out of range is no error on buffers: its row counts as
    /// a row with NaN among its logits.
    pub soft_labels: Option<GpuLogits<'a>>,
    /// `f32 [rows]`, at a multiple of 4 bytes: [`Batch::row_weights`](crate::Batch::row_weights). A weight that is not finite is no error on
    /// buffers: its row counts as a row with NaN among its logits.
    pub row_weights: Option<GpuSlice<'a>>,
    /// `f32 [classes]` of the student, at a multiple of 4 bytes: [`Batch::class_weights`](crate::Batch::class_weights). A weight out of range
    /// is no error on buffers: the rows that use it count as rows with NaN among their logits. Every row uses the weights of all classes in
    /// the soft part and with label smoothing, else that of its label.
    pub class_weights: Option<GpuSlice<'a>>,
}

/// Buffers for results. An output that is `None` is not computed, or stays in the workspace.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuOutputs<'a> {
    /// One [`Summary`](crate::Summary), 80 bytes, at a multiple of 256 bytes.
    pub summary: Option<GpuSlice<'a>>,
    /// [`RowResult`](crate::RowResult)` [rows]`, 16 bytes each, at a multiple of 16 bytes.
    pub row_results: Option<GpuSlice<'a>>,
    /// [`RowReport`](crate::RowReport)` [rows]`, 64 bytes each, at a multiple of 64 bytes, instead of `row_results`: each row's result and
    /// metrics. The summary then has the means of the metrics.
    pub row_metrics: Option<GpuSlice<'a>>,
    /// `[rows, classes]` with the student's number of classes. It may be the student's logits (same buffer, offset, stride and
    /// storage). The gradient then overwrites them. [`GradWrite::Accumulate`](crate::GradWrite::Accumulate) does not allow that.
    pub gradient: Option<GpuLogits<'a>>,
}

/// A slice of the classes in buffers, and the outputs of its last step. Every step takes all of it: the statistics have what the outputs need.
///
/// ```no_run
/// use wgpu_distill::gpu::{Gpu, GpuShard, GpuShardStats, GpuSlice};
/// use wgpu_distill::{Config, Progress, Result, wgpu};
///
/// /// One step of a loss of one sweep. `gather` copies the statistics of every device, in the order of the classes, into `all` on this one.
/// fn step(
///     gpu: &Gpu,
///     config: &Config,
///     progress: Progress,
///     slice: &GpuShard<'_>,
///     [own, all]: [&wgpu::Buffer; 2],
///     devices: usize,
///     gather: impl FnOnce(&wgpu::Buffer, &wgpu::Buffer),
/// ) -> Result<()> {
///     let new_encoder = || gpu.device().create_command_encoder(&Default::default());
///     let at = |buffer| GpuSlice { buffer, offset: 0 };
///     assert!(!config.sweeps_twice());
///
///     let mut encoder = new_encoder();
///     gpu.encode_observe_shard(&mut encoder, config, slice, at(own), None)?;
///     gpu.queue().submit([encoder.finish()]);
///     gather(own, all);
///
///     let gathered = GpuShardStats {
///         shards: devices,
///         row_stats: at(all),
///         sweep_sums: None,
///     };
///     let mut encoder = new_encoder();
///     gpu.encode_apply_shard(&mut encoder, config, progress, slice, &gathered, None)?;
///     gpu.queue().submit([encoder.finish()]);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GpuShard<'a> {
    /// The place of the columns among all classes.
    pub shard: Shard,
    /// The slice's columns of both matrices and of soft labels, and every row's label as a number among all classes.
    pub batch: GpuBatch<'a>,
    /// Summary and results of the rows are those of all classes; the gradient has the slice's columns.
    pub outputs: GpuOutputs<'a>,
}

/// The statistics of all shards of a vocabulary in buffers, gathered from their devices, the same on each.
#[derive(Clone, Copy, Debug)]
pub struct GpuShardStats<'a> {
    /// The shards.
    pub shards: usize,
    /// [`RowStats`](crate::RowStats)` [shards, rows]`, 224 bytes each, at a multiple of 256 bytes: what
    /// [`encode_observe_shard`](super::Gpu::encode_observe_shard) wrote on each device, in one order on all. Merged on the host by
    /// [`merge_shards`](crate::merge_shards) they are one shard.
    pub row_stats: GpuSlice<'a>,
    /// [`SweepSums`](crate::SweepSums)` [shards, rows]`, 16 bytes each, at a multiple of 256 bytes: what
    /// [`encode_sweep_shard`](super::Gpu::encode_sweep_shard) wrote on each device; `None` exactly if
    /// [`Config::sweeps_twice`](crate::Config::sweeps_twice) is false, and before the sweep.
    pub sweep_sums: Option<GpuSlice<'a>>,
}

/// A step on a slice of the classes, and the statistics that it reads and writes.
#[derive(Clone, Copy)]
pub(super) struct ShardBuffers<'a> {
    pub shard: Shard,
    pub step: ShardStep,
    pub stats: GpuShardStats<'a>,
}

impl ShardBuffers<'_> {
    pub fn lists(&self) -> ShardLists {
        ShardLists {
            step: self.step,
            shards: u32::try_from(self.stats.shards).unwrap_or(u32::MAX),
            row_stats: self.stats.row_stats.list(),
            sweep_sums: self.stats.sweep_sums.as_ref().map(GpuSlice::list),
        }
    }
}

/// The caller's buffers of one call.
#[derive(Clone, Copy)]
pub(super) struct CallerBuffers<'a> {
    pub batch: &'a GpuBatch<'a>,
    pub outputs: &'a GpuOutputs<'a>,
    /// `None` if the matrices have all classes.
    pub shard: Option<ShardBuffers<'a>>,
}

impl<'a> CallerBuffers<'a> {
    /// Those of matrices with all classes.
    pub fn new(batch: &'a GpuBatch<'a>, outputs: &'a GpuOutputs<'a>) -> Self {
        Self {
            batch,
            outputs,
            shard: None,
        }
    }

    /// The buffer of an operand; `None` for operands of the workspace.
    pub fn get(&self, operand: Operand) -> Option<&'a wgpu::Buffer> {
        let (batch, outputs) = (self.batch, self.outputs);
        match operand {
            Operand::StudentLogits => Some(batch.student_logits.buffer),
            Operand::TeacherLogits => Some(batch.teacher_logits.buffer),
            Operand::TeacherIds => batch.teacher_ids.map(|ids| ids.buffer),
            Operand::Labels => Some(batch.labels.slice.buffer),
            Operand::SoftLabels => batch.soft_labels.map(|y| y.buffer),
            Operand::RowWeights => batch.row_weights.map(|w| w.buffer),
            Operand::ClassWeights => batch.class_weights.map(|w| w.buffer),
            Operand::Gradient => outputs.gradient.map(|g| g.buffer),
            Operand::RowResults => outputs.row_results.map(|r| r.buffer),
            Operand::RowMetrics => outputs.row_metrics.map(|r| r.buffer),
            Operand::Summary => outputs.summary.map(|s| s.buffer),
            Operand::SegmentStats => self.shard.map(|s| s.stats.row_stats.buffer),
            Operand::SweepSums => self.shard?.stats.sweep_sums.map(|s| s.buffer),
            _ => None,
        }
    }

    /// Placement of the lists.
    pub fn lists(&self) -> Lists {
        Lists {
            labels: self.batch.labels.slice.list(),
            label_type: self.batch.labels.label_type,
            row_results: self.outputs.row_results.as_ref().map(GpuSlice::list),
            row_metrics: self.outputs.row_metrics.as_ref().map(GpuSlice::list),
            summary: self.outputs.summary.as_ref().map(GpuSlice::list),
            row_weights: self.batch.row_weights.as_ref().map(GpuSlice::list),
            class_weights: self.batch.class_weights.as_ref().map(GpuSlice::list),
            teacher_ids: self.batch.teacher_ids.as_ref().map(GpuSlice::list),
            shard: self.shard.as_ref().map(ShardBuffers::lists),
        }
    }
}
