//! Records the steps on a slice of the classes, in buffers.

use super::buffers::{CallerBuffers, GpuShard, GpuShardStats, GpuSlice, ShardBuffers};
use super::device::Gpu;
use super::workspace::Workspace;
use crate::plan::{Plan, ShardStep};
use crate::{Config, Error, Progress, Result, validate};

/// The steps before the last do not depend on it.
const ANY: Progress = Progress { step: 0, total: 1 };

impl Gpu {
    /// Records the first step on a slice of the classes: the statistics of its rows, into `row_stats`
    /// ([`RowStats`](crate::RowStats)` [rows]`, 224 bytes each, at a multiple of 256 bytes). Does not submit, wait or read back.
    ///
    /// Each device records this step; then all devices gather the statistics of all ([`GpuShardStats`]). [`Shard`](crate::Shard) has the
    /// order of the steps. A [`Workspace`] for the plan of [`plan_shard`](Self::plan_shard) serves every step.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode), [`Error::ShardRange`] for columns beyond all classes, and [`Error::Unsupported`] for weights of
    /// classes, a list as the teacher, [`Standardization::ZScore`](crate::Standardization::ZScore) and a teacher of another width.
    pub fn encode_observe_shard(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        config: &Config,
        slice: &GpuShard<'_>,
        row_stats: GpuSlice<'_>,
        workspace: Option<&Workspace>,
    ) -> Result<()> {
        let own = GpuShardStats {
            shards: 1,
            row_stats,
            sweep_sums: None,
        };
        let buffers = buffers(slice, ShardStep::Observe, own);
        self.encode_shard(encoder, config, ANY, buffers, workspace)
    }

    /// Records the second step, which only losses and similarities of two sweeps have ([`Config::sweeps_twice`]): the slice's sums, given the
    /// `gathered` statistics without sums, into `sweep_sums` ([`SweepSums`](crate::SweepSums)` [rows]`, 16 bytes each, at a multiple of 256
    /// bytes). Then all devices gather the sums of all.
    ///
    /// # Errors
    /// Those of [`encode_observe_shard`](Self::encode_observe_shard), and [`Error::Unsupported`] if there is no second sweep.
    pub fn encode_sweep_shard(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        config: &Config,
        slice: &GpuShard<'_>,
        gathered: &GpuShardStats<'_>,
        sweep_sums: GpuSlice<'_>,
        workspace: Option<&Workspace>,
    ) -> Result<()> {
        if !config.sweeps_twice() {
            return Err(Error::Unsupported {
                what: "a second sweep over a slice of the classes".to_owned(),
                why: "loss and similarity have one sweep; apply next",
            });
        }
        let stats = GpuShardStats {
            sweep_sums: Some(sweep_sums),
            ..*gathered
        };
        let buffers = buffers(slice, ShardStep::Sweep, stats);
        self.encode_shard(encoder, config, ANY, buffers, workspace)
    }

    /// Records the last step: merges the `gathered` statistics, decides, and writes the outputs. Devices of one kind get the same bits from
    /// the same statistics.
    ///
    /// The kernels merge in f32. A row whose shards do not cover all classes counts as a row with NaN among its logits, and a label that no
    /// shard has as out of range.
    ///
    /// # Errors
    /// Those of [`encode_observe_shard`](Self::encode_observe_shard), and [`Error::PlanMismatch`] if the sums of the second sweep are missing or
    /// not wanted.
    pub fn encode_apply_shard(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        config: &Config,
        progress: Progress,
        slice: &GpuShard<'_>,
        gathered: &GpuShardStats<'_>,
        workspace: Option<&Workspace>,
    ) -> Result<()> {
        validate::progress(config.selection, progress)?;
        let buffers = buffers(slice, ShardStep::Apply, *gathered);
        self.encode_shard(encoder, config, progress, buffers, workspace)
    }

    /// Returns the plan of the steps on a slice, to size a [`Workspace`].
    ///
    /// # Errors
    /// Those of [`encode_apply_shard`](Self::encode_apply_shard).
    pub fn plan_shard(
        &self,
        config: &Config,
        slice: &GpuShard<'_>,
        gathered: &GpuShardStats<'_>,
    ) -> Result<Plan> {
        let buffers = buffers(slice, ShardStep::Apply, *gathered);
        self.plan_of(config, buffers, None)
    }

    fn encode_shard(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        config: &Config,
        progress: Progress,
        buffers: CallerBuffers<'_>,
        workspace: Option<&Workspace>,
    ) -> Result<()> {
        let plan = self.plan_of(config, buffers, None)?;
        let dispatches = plan.dispatches(config, progress, &buffers.lists())?;
        self.record_checked(encoder, &plan, &dispatches, buffers, workspace)
    }
}

fn buffers<'a>(
    slice: &'a GpuShard<'a>,
    step: ShardStep,
    stats: GpuShardStats<'a>,
) -> CallerBuffers<'a> {
    CallerBuffers {
        batch: &slice.batch,
        outputs: &slice.outputs,
        shard: Some(ShardBuffers {
            shard: slice.shard,
            step,
            stats,
        }),
    }
}
