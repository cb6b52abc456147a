//! The steps on a slice of the classes.

use super::Cpu;
use super::merge::whole_rows;
use super::row::Row;
use super::setup::Setup;
use super::zeros::zeros;
use crate::rule::statistics;
use crate::{Batch, Config, Decision, Result, RowStats, Shard, SweepSums, validate};

impl Cpu {
    /// Observe: the statistics of each row over the classes of a slice, for [`merge_shards`](crate::merge_shards). KDR has no value yet.
    ///
    /// `batch` has the slice's columns of both matrices and of soft labels, and every row's label as a number among all classes.
    ///
    /// # Errors
    /// As for [`observe`](Self::observe), and [`Error::ShardRange`](crate::Error::ShardRange) for columns beyond all classes.
    pub fn observe_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
    ) -> Result<Vec<RowStats>> {
        validate::shards::batch(config, batch, shard)?;
        let labels = shard.columns(config, batch);
        let local = Shard::local(config);
        let columns = Batch {
            labels: &labels,
            ..*batch
        };
        let mut setup = Setup::of(&local, false).for_batch(&columns);
        setup.moments = setup.moments.with(statistics(setup.rule.sampled));
        setup.is_part = true;
        let mut stats = self.observe_rows(&setup, &columns)?;
        shard.mark(batch, &mut stats);
        Ok(stats)
    }

    /// The second sweep over a slice: its part of each row's sums, given the `merged` statistics of all classes. For
    /// [`finish_shards`](crate::finish_shards), if [`Config::sweeps_twice`]; else all sums are 0.
    ///
    /// # Errors
    /// As for [`observe_shard`](Self::observe_shard), and [`Error::Shards`](crate::Error::Shards) if `merged` does not cover all classes.
    pub fn sweep_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
        merged: &[RowStats],
    ) -> Result<Vec<SweepSums>> {
        validate::shards::batch(config, batch, shard)?;
        validate::row_count("merged", batch.rows(), merged.len())?;
        let rows = whole_rows(config, merged)?;
        let setup = Setup::of(config, false);
        let mut sums: Vec<SweepSums> = zeros(batch.rows())?;
        self.fill_rows(&mut sums, batch.classes(), |row, sums, scratch| {
            let mut stats = rows[row];
            sums.classes = batch.classes() as u32;
            if setup.second_sweep && stats.has_sums() {
                let row = Row::of(&setup, batch, row);
                self.isa.sweep(&row, &mut stats, scratch);
                sums.similarity = stats.similarity_sum;
                (sums.first, sums.second) = (stats.sweep_first, stats.sweep_second);
            }
        });
        Ok(sums)
    }

    /// Apply: the gradient of a slice, `[rows, columns]` in f32, from each row's [`Decision`] about all classes.
    ///
    /// # Errors
    /// As for [`observe_shard`](Self::observe_shard) and [`apply`](Self::apply).
    pub fn apply_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        validate::shards::batch(config, batch, shard)?;
        validate::new_gradient(config)?;
        validate::row_count("decisions", batch.rows(), decisions.len())?;
        let local = shard.local_decisions(decisions, batch.classes());
        self.apply_rows(config, batch, &local)
    }
}
