//! Single steps of an engine, so that one test can run them on GPUs and on the CPU path.

// Each test binary compiles this module and uses a part of it.
#![allow(dead_code)]

use wgpu_distill::{
    Batch, Config, Decision, Engine, Logits, Progress, Result, RowStats, Shard, SweepSums,
};

pub trait Steps {
    fn softmax(&self, logits: &Logits<'_>, rows: usize, temperature: f32) -> Result<Vec<f32>>;

    fn observe(&self, config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>>;

    fn decide(
        &self,
        config: &Config,
        progress: Progress,
        row_stats: &[RowStats],
        classes: usize,
    ) -> Result<Vec<Decision>>;

    fn apply(&self, config: &Config, batch: &Batch<'_>, decisions: &[Decision])
    -> Result<Vec<f32>>;

    fn observe_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
    ) -> Result<Vec<RowStats>>;

    fn sweep_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
        merged: &[RowStats],
    ) -> Result<Vec<SweepSums>>;

    fn apply_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
        decisions: &[Decision],
    ) -> Result<Vec<f32>>;
}

/// Calls a method of the engine's context.
macro_rules! either {
    ($engine:expr, $call:ident($($argument:expr),*)) => {
        match $engine {
            Engine::Gpu(gpu) => gpu.$call($($argument),*),
            Engine::Cpu { cpu, .. } => cpu.$call($($argument),*),
            other => unreachable!("{other:?} has no single steps"),
        }
    };
}

impl Steps for Engine {
    fn softmax(&self, logits: &Logits<'_>, rows: usize, temperature: f32) -> Result<Vec<f32>> {
        either!(self, softmax(logits, rows, temperature))
    }

    fn observe(&self, config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
        either!(self, observe(config, batch))
    }

    fn decide(
        &self,
        config: &Config,
        progress: Progress,
        row_stats: &[RowStats],
        classes: usize,
    ) -> Result<Vec<Decision>> {
        either!(self, decide(config, progress, row_stats, classes))
    }

    fn apply(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        either!(self, apply(config, batch, decisions))
    }

    fn observe_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
    ) -> Result<Vec<RowStats>> {
        either!(self, observe_shard(config, batch, shard))
    }

    fn sweep_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
        merged: &[RowStats],
    ) -> Result<Vec<SweepSums>> {
        either!(self, sweep_shard(config, batch, shard, merged))
    }

    fn apply_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        either!(self, apply_shard(config, batch, shard, decisions))
    }
}
