//! The steps on a slice of the classes as dispatches. Between them the caller exchanges the statistics of all devices.

use super::chunks::Chunk;
use super::dispatch::{Dispatch, DispatchBuilder};
use super::lists::{ShardLists, ShardStep};
use super::operand::{Operand, Window};
use super::planner::Plan;
use crate::params::Params;
use crate::shader::Kernel;
use crate::{Config, Error, Result, validate};

/// The alignment of the lists in bytes, which any device's bindings may start at.
const ALIGNMENT: u64 = 256;

impl ShardLists {
    /// Checks the lists of a step against a problem.
    pub(super) fn check(&self, config: &Config, plan: &Plan) -> Result<()> {
        let rows = plan.problem.rows;
        let alignment = ALIGNMENT.max(plan.offset_alignment);
        let [stats, sums] = self.bytes(rows);
        let what = "the size of the statistics of shards in bytes";
        validate::within(what, stats, plan.largest_binding)?;
        self.row_stats.check("row_stats", stats, alignment)?;
        let wanted = match self.step {
            ShardStep::Observe => false,
            ShardStep::Sweep => true,
            ShardStep::Apply => config.sweeps_twice(),
        };
        if wanted != self.sweep_sums.is_some() || self.shards == 0 {
            return Err(Error::PlanMismatch);
        }
        match &self.sweep_sums {
            Some(list) => list.check("sweep_sums", sums, alignment),
            None => Ok(()),
        }
    }

    /// The whole list of an operand; its rows are found by [`Params::record_offset`].
    fn window(&self, operand: Operand, rows: usize) -> Option<Window> {
        let [stats, sums] = self.bytes(rows);
        let (list, bytes) = match operand {
            Operand::SegmentStats => (self.row_stats, stats),
            Operand::SweepSums => (self.sweep_sums?, sums),
            _ => return None,
        };
        Some(Window {
            operand,
            offset: list.offset,
            bytes,
        })
    }
}

impl DispatchBuilder<'_> {
    /// The dispatches of a step on a slice.
    pub(super) fn of_shard(&self, lists: &ShardLists) -> Vec<Dispatch> {
        let each = |kernel| {
            let chunks = self.plan.chunks.iter();
            chunks.map(move |chunk| self.one(kernel, chunk, 0))
        };
        match lists.step {
            ShardStep::Observe => each(Kernel::Observe).collect(),
            ShardStep::Sweep => each(Kernel::SecondSweep).collect(),
            ShardStep::Apply => {
                let mut list = Vec::new();
                let mut partials = 0;
                for chunk in &self.plan.chunks {
                    list.push(self.one(Kernel::MergeRowStats, chunk, partials));
                    partials += chunk.workgroups;
                }
                self.decide_and_apply(&mut list, partials);
                list
            }
        }
    }

    /// Sets what a kernel on a slice has besides the parameters of a row.
    pub(super) fn set_shard(&self, kernel: Kernel, chunk: &Chunk, params: &mut Params) {
        let (Some(shard), Some(lists)) = (self.plan.problem.shard, self.lists.shard) else {
            return;
        };
        params.first_class = shard.first_class as u32;
        params.all_classes = shard.classes as u32;
        params.record_stride = self.plan.problem.rows as u32;
        params.record_offset = chunk.rows.start as u32;
        if kernel == Kernel::Decide {
            params.classes = params.all_classes;
        }
        if matches!(kernel, Kernel::SecondSweep | Kernel::MergeRowStats) {
            params.segments = lists.shards;
        }
    }

    /// The window of a list of the caller's, in a step on a slice.
    pub(super) fn shard_window(&self, operand: Operand) -> Option<Window> {
        let lists = self.lists.shard.as_ref()?;
        lists.window(operand, self.plan.problem.rows)
    }
}
