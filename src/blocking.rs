//! The blocking forms of everything that waits. A browser cannot block: there this module is left out.

use crate::gpu::{AdapterDescription, Gpu, adapters};
use crate::{
    Batch, Config, Decision, Distillation, Engine, GradWrite, GradientMut, Logits, Outputs,
    OutputsMut, Progress, Result, RowStats, Storage, Summary, validate,
};

/// Every adapter that wgpu reaches here, software ones included: [`gpu::adapters`](crate::gpu::adapters), blocking.
pub fn adapters_blocking() -> Vec<AdapterDescription> {
    pollster::block_on(adapters())
}

impl Engine {
    /// [`auto_async`](Self::auto_async), blocking.
    pub fn auto() -> Self {
        pollster::block_on(Self::auto_async())
    }

    /// [`gpu_async`](Self::gpu_async), blocking.
    ///
    /// # Errors
    /// [`Error::NoAdapter`](crate::Error::NoAdapter) with the adapters there are.
    pub fn gpu(name: &str) -> Result<Self> {
        pollster::block_on(Self::gpu_async(name))
    }

    /// The whole method: loss, KDR and TSSR, and what of `outputs` is asked for.
    ///
    /// # Errors
    /// Every bad argument, named with its values, before anything runs; then what the device reports.
    pub fn run(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        match self {
            Self::Gpu(gpu) => gpu.run(config, progress, batch, outputs),
            Self::Cpu { cpu, .. } => cpu.run(config, progress, batch, outputs),
        }
    }

    /// The kernel `softmax` on its own: `softmax(logits / temperature)`, `[rows, classes]` close together.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn softmax(&self, logits: &Logits<'_>, rows: usize, temperature: f32) -> Result<Vec<f32>> {
        match self {
            Self::Gpu(gpu) => gpu.softmax(logits, rows, temperature),
            Self::Cpu { cpu, .. } => cpu.softmax(logits, rows, temperature),
        }
    }

    /// The kernel `observe` on its own (observe): each row's mergeable statistics and its KDR.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn observe(&self, config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
        match self {
            Self::Gpu(gpu) => gpu.observe(config, batch),
            Self::Cpu { cpu, .. } => cpu.observe(config, batch),
        }
    }

    /// The kernel `decide` on its own (decide): TSSR, loss and gradient coefficients of each row. `classes` are the student's.
    ///
    /// To steer with a controller of your own, write each row's share of the truth into `kdr` and take [`Selection::Kdr`](crate::Selection::Kdr).
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn decide(
        &self,
        config: &Config,
        progress: Progress,
        row_stats: &[RowStats],
        classes: usize,
    ) -> Result<Vec<Decision>> {
        match self {
            Self::Gpu(gpu) => gpu.decide(config, progress, row_stats, classes),
            Self::Cpu { cpu, .. } => cpu.decide(config, progress, row_stats, classes),
        }
    }

    /// The kernel `apply` on its own (apply): the gradient `[rows, classes]` from each row's decision.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn apply(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        match self {
            Self::Gpu(gpu) => gpu.apply(config, batch, decisions),
            Self::Cpu { cpu, .. } => cpu.apply(config, batch, decisions),
        }
    }

    /// The whole method, with the outputs written to memory of the caller.
    ///
    /// Reusing that memory from step to step saves its allocation, which on the CPU can cost as much as the arithmetic.
    /// With [`GradWrite::Accumulate`](crate::GradWrite::Accumulate) the gradient is added to what is there.
    ///
    /// # Errors
    /// As for [`run`](Self::run), and for memory of another shape than the batch.
    /// After any other error the memory may hold anything.
    pub fn run_into(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        match self {
            Self::Gpu(gpu) => gpu.run_into(config, progress, batch, outputs),
            Self::Cpu { cpu, .. } => cpu.run_into(config, progress, batch, outputs),
        }
    }
}

impl Gpu {
    /// The whole method on slices. See [`Engine::run`](crate::Engine::run).
    pub fn run(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        pollster::block_on(self.blocking().run_async(config, progress, batch, outputs))
    }

    /// The whole method with the outputs written to memory of the caller. See [`Engine::run_into`](crate::Engine::run_into).
    pub fn run_into(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        validate::batch(config, batch)?;
        validate::outputs(batch, &outputs)?;
        let write = config.grad_write;
        // Rounded once, after the addition.
        let storage = |g: &GradientMut<'_>| match write {
            GradWrite::Overwrite => g.values.storage(),
            GradWrite::Accumulate => Storage::F32,
        };
        let new = Outputs {
            rows: outputs.rows.is_some(),
            gradient: outputs.gradient.as_ref().map(storage),
        };
        let overwrite = Config {
            grad_write: GradWrite::Overwrite,
            ..*config
        };
        let done = self.run(&overwrite, progress, batch, new)?;
        if let Some(rows) = outputs.rows {
            rows.copy_from_slice(&done.rows);
        }
        if let (Some(mut to), Some(from)) = (outputs.gradient, done.gradient) {
            to.store(&from, write);
        }
        Ok(done.summary)
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
        pollster::block_on(
            self.blocking()
                .decide_async(config, progress, row_stats, classes),
        )
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
}
