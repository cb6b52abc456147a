//! The steps on a slice of the classes. The kernels keep its statistics as those of a segment of a row.

use super::device::Gpu;
use super::row_ranges::teacher_of;
use super::steps::{Input, Step, observed};
use crate::plan::{Operand, ROW_STATS_BYTES};
use crate::shader::Kernel;
use crate::{Batch, Config, Decision, Progress, Result, RowStats, Shard, SweepSums, cpu, validate};

/// Segments of a row: the slice, and one without classes.
const SEGMENTS: u32 = 2;

impl Gpu {
    /// Observe a slice of the classes, without blocking. See [`Cpu::observe_shard`](crate::cpu::Cpu::observe_shard).
    pub async fn observe_shard_async(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
    ) -> Result<Vec<RowStats>> {
        validate::shards::batch(config, batch, shard)?;
        let labels = shard.columns(config, batch);
        let columns = Batch {
            labels: &labels,
            ..*batch
        };
        let segments: Vec<RowStats> = self
            .run_step(&Step {
                kernel: Kernel::Observe,
                config: Shard::local(config),
                progress: Progress::NONE,
                rows: batch.rows(),
                classes: batch.classes(),
                inputs: &observed(&columns),
                result: Operand::SegmentStats,
                segments: SEGMENTS,
            })
            .await?;
        let mut stats = firsts(&segments);
        shard.mark(batch, &mut stats);
        Ok(stats)
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
        let classes = batch.classes() as u32;
        let none = SweepSums {
            classes,
            ..SweepSums::default()
        };
        if !config.sweeps_twice() {
            return Ok(vec![none; rows.len()]);
        }
        let pairs: Vec<_> = merged
            .iter()
            .map(|all| [*all, RowStats::identity()])
            .collect();
        let bytes = ROW_STATS_BYTES as usize * SEGMENTS as usize;
        let segments: Vec<SweepSums> = self
            .run_step(&Step {
                kernel: Kernel::SecondSweep,
                config: *config,
                progress: Progress::NONE,
                rows: batch.rows(),
                classes: batch.classes(),
                inputs: &[
                    (Operand::StudentLogits, Input::Matrix(batch.student_logits)),
                    (Operand::TeacherLogits, Input::Matrix(teacher_of(batch))),
                    (
                        Operand::SegmentStats,
                        Input::List(bytemuck::cast_slice(&pairs), bytes),
                    ),
                ],
                result: Operand::SweepSums,
                segments: SEGMENTS,
            })
            .await?;
        let sums = rows.iter().zip(firsts(&segments));
        let of = |(row, sums): (&RowStats, SweepSums)| match row.has_sums() {
            true => SweepSums { classes, ..sums },
            false => none,
        };
        Ok(sums.map(of).collect())
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
        let local = shard.local_decisions(decisions, batch.classes());
        self.apply_rows(config, batch, &local).await
    }
}

/// The first segment of each row.
fn firsts<T: Copy>(segments: &[T]) -> Vec<T> {
    let rows = segments.chunks_exact(SEGMENTS as usize);
    rows.map(|segments| segments[0]).collect()
}
