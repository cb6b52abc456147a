//! Blocking forms of the asynchronous calls. A browser cannot block, so it lacks this module.

use super::adapters::{AdapterDescription, adapters};
use super::device::Gpu;
use crate::{
    Batch, Config, Decision, Distillation, Logits, Outputs, OutputsMut, Progress, Result, RowStats,
    Shard, Summary, SweepSums,
};

/// Every adapter that wgpu finds, including software adapters. The blocking form of [`adapters`](super::adapters()).
pub fn adapters_blocking() -> Vec<AdapterDescription> {
    pollster::block_on(adapters())
}

impl Gpu {
    /// Computes the whole method on slices. See [`Engine::run`](crate::Engine::run).
    pub fn run(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        pollster::block_on(self.blocking().run_async(config, progress, batch, outputs))
    }

    /// Computes the whole method on slices into the caller's memory. See [`Engine::run_into`](crate::Engine::run_into).
    pub fn run_into(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        let gpu = self.blocking();
        pollster::block_on(gpu.run_into_async(config, progress, batch, outputs))
    }

    /// Softmax on slices. See [`Cpu::softmax`](crate::cpu::Cpu::softmax).
    pub fn softmax(&self, logits: &Logits<'_>, rows: usize, temperature: f32) -> Result<Vec<f32>> {
        pollster::block_on(self.blocking().softmax_async(logits, rows, temperature))
    }

    /// Observe on slices. See [`Cpu::observe`](crate::cpu::Cpu::observe).
    pub fn observe(&self, config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
        pollster::block_on(self.blocking().observe_async(config, batch))
    }

    /// Decide on slices. See [`Cpu::decide`](crate::cpu::Cpu::decide).
    pub fn decide(
        &self,
        config: &Config,
        progress: Progress,
        row_stats: &[RowStats],
        classes: usize,
    ) -> Result<Vec<Decision>> {
        let gpu = self.blocking();
        pollster::block_on(gpu.decide_async(config, progress, row_stats, classes))
    }

    /// Apply on slices. See [`Cpu::apply`](crate::cpu::Cpu::apply).
    pub fn apply(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        pollster::block_on(self.blocking().apply_async(config, batch, decisions))
    }
    /// Observe a slice of the classes. See [`Cpu::observe_shard`](crate::cpu::Cpu::observe_shard).
    pub fn observe_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
    ) -> Result<Vec<RowStats>> {
        let gpu = self.blocking();
        pollster::block_on(gpu.observe_shard_async(config, batch, shard))
    }

    /// The second sweep over a slice of the classes. See [`Cpu::sweep_shard`](crate::cpu::Cpu::sweep_shard).
    pub fn sweep_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
        merged: &[RowStats],
    ) -> Result<Vec<SweepSums>> {
        let gpu = self.blocking();
        pollster::block_on(gpu.sweep_shard_async(config, batch, shard, merged))
    }

    /// Apply to a slice of the classes. See [`Cpu::apply_shard`](crate::cpu::Cpu::apply_shard).
    pub fn apply_shard(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Shard,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        let gpu = self.blocking();
        pollster::block_on(gpu.apply_shard_async(config, batch, shard, decisions))
    }
}
