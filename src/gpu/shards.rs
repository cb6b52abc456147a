//! The steps on a slice of the classes, on slices of numbers.

use super::device::Gpu;
use super::row_ranges::teacher_of;
use super::steps::{Input, Step, observed};
use crate::plan::{Operand, ROW_STATS_BYTES, ShardStep};
use crate::shader::Kernel;
use crate::{Batch, Config, Decision, Progress, Result, RowStats, Shard, SweepSums, cpu, validate};

impl Gpu {
    /// Observe a slice of the classes, without blocking. See [`Cpu::observe_shard`](crate::cpu::Cpu::observe_shard).
    pub async fn observe_shard_async(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
    ) -> Result<Vec<RowStats>> {
        validate::shards::batch(config, batch, shard)?;
        self.run_step(&Step {
            kernel: Kernel::Observe,
            config: *config,
            progress: Progress::NONE,
            rows: batch.rows(),
            classes: batch.classes(),
            inputs: &observed(batch),
            result: Operand::SegmentStats,
            shard: Some((shard, ShardStep::Observe)),
        })
        .await
    }

    /// The second sweep over a slice of the classes, without blocking. See [`Cpu::sweep_shard`](crate::cpu::Cpu::sweep_shard).
    pub async fn sweep_shard_async(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
        merged: &[RowStats],
    ) -> Result<Vec<SweepSums>> {
        validate::shards::batch(config, batch, shard)?;
        validate::row_count("merged", batch.rows(), merged.len())?;
        let rows = cpu::whole_rows(config, merged)?;
        let none = SweepSums {
            classes: batch.classes() as u32,
            ..SweepSums::default()
        };
        if !config.sweeps_twice() {
            return Ok(vec![none; rows.len()]);
        }
        let stats = Input::List(bytemuck::cast_slice(merged), ROW_STATS_BYTES as usize);
        let sums: Vec<SweepSums> = self
            .run_step(&Step {
                kernel: Kernel::SecondSweep,
                config: *config,
                progress: Progress::NONE,
                rows: batch.rows(),
                classes: batch.classes(),
                inputs: &[
                    (Operand::StudentLogits, Input::Matrix(batch.student_logits)),
                    (Operand::TeacherLogits, Input::Matrix(teacher_of(batch))),
                    (Operand::SegmentStats, stats),
                ],
                result: Operand::SweepSums,
                shard: Some((shard, ShardStep::Sweep)),
            })
            .await?;
        let of = |(row, sums): (&RowStats, SweepSums)| match row.has_sums() {
            true => sums,
            false => none,
        };
        Ok(rows.iter().zip(sums).map(of).collect())
    }

    /// Apply to a slice of the classes, without blocking. See [`Cpu::apply_shard`](crate::cpu::Cpu::apply_shard).
    pub async fn apply_shard_async(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        validate::shards::batch(config, batch, shard)?;
        validate::new_gradient(config)?;
        validate::row_count("decisions", batch.rows(), decisions.len())?;
        self.apply_rows(config, batch, Some(shard), decisions).await
    }
}
