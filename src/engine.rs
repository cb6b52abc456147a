//! One door for GPU and CPU.

use crate::cpu::{Cpu, GradientMut};
use crate::gpu::Gpu;
use crate::{
    Batch, Config, Decision, Distillation, Logits, Outputs, Progress, Result, RowStats, Summary,
};

/// Where the work is done. Chosen once; it never changes silently afterwards.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Engine {
    /// A GPU, or a software adapter that was asked for by name.
    Gpu(Gpu),
    /// The CPU path.
    Cpu {
        /// The engine.
        cpu: Cpu,
        /// Why it was chosen, in words; empty if it was asked for.
        reason: String,
    },
}

impl Engine {
    /// The CPU path.
    pub fn cpu() -> Self {
        Self::Cpu {
            cpu: Cpu::new(),
            reason: String::new(),
        }
    }

    /// The best hardware GPU, else the CPU path; [`describe`](Self::describe) says which and why. Software adapters are only used when asked for by name.
    pub async fn auto_async() -> Self {
        match Gpu::hardware().await {
            Ok(gpu) => Self::Gpu(gpu),
            Err(error) => Self::Cpu {
                cpu: Cpu::new(),
                reason: error.to_string(),
            },
        }
    }

    /// The first adapter, software ones included, whose name contains `name`, whatever the case.
    ///
    /// # Errors
    /// [`Error::NoAdapter`](crate::Error::NoAdapter) with the adapters there are.
    pub async fn gpu_async(name: &str) -> Result<Self> {
        Ok(Self::Gpu(Gpu::named(name).await?))
    }

    /// What it runs on, in words for a person.
    pub fn describe(&self) -> String {
        match self {
            Self::Gpu(gpu) => gpu.describe(),
            Self::Cpu { cpu, reason } if reason.is_empty() => cpu.describe(),
            Self::Cpu { cpu, reason } => format!("{}; {reason}", cpu.describe()),
        }
    }

    /// The whole method, without blocking: loss, KDR and TSSR, and what of `outputs` is asked for.
    ///
    /// # Errors
    /// Every bad argument, named with its values, before anything runs; then what the device reports.
    pub async fn run_async(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        match self {
            Self::Gpu(gpu) => gpu.run_async(config, progress, batch, outputs).await,
            Self::Cpu { cpu, .. } => cpu.run(config, progress, batch, outputs),
        }
    }
}

/// The blocking forms. A browser cannot block; there are only the others.
#[cfg(not(target_arch = "wasm32"))]
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

    /// The kernel `row_stats` on its own (observe): each row's mergeable statistics and its KDR.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn row_stats(&self, config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
        match self {
            Self::Gpu(gpu) => gpu.row_stats(config, batch),
            Self::Cpu { cpu, .. } => cpu.row_stats(config, batch),
        }
    }

    /// The kernel `select` on its own (decide): TSSR, loss and gradient coefficients of each row. `classes` are the student's.
    ///
    /// To steer with a controller of your own, write each row's share of the truth into `kdr` and take [`Selection::Kdr`](crate::Selection::Kdr).
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn select(
        &self,
        config: &Config,
        progress: Progress,
        row_stats: &[RowStats],
        classes: usize,
    ) -> Result<Vec<Decision>> {
        match self {
            Self::Gpu(gpu) => gpu.select(config, progress, row_stats, classes),
            Self::Cpu { cpu, .. } => cpu.select(config, progress, row_stats, classes),
        }
    }

    /// The kernel `weighted_cross_entropy` on its own (apply): the gradient `[rows, classes]` from each row's decision.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn weighted_cross_entropy(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        match self {
            Self::Gpu(gpu) => gpu.weighted_cross_entropy(config, batch, decisions),
            Self::Cpu { cpu, .. } => cpu.weighted_cross_entropy(config, batch, decisions),
        }
    }

    /// The whole method, with the gradient written to memory of the caller: `[rows, classes]`, close together, overwritten.
    ///
    /// Reusing that memory from step to step saves its allocation, which on the CPU can cost as much as the arithmetic.
    ///
    /// # Errors
    /// As for [`run`](Self::run), and if `gradient` has another length.
    pub fn run_into(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        gradient: GradientMut<'_>,
    ) -> Result<Summary> {
        match self {
            Self::Gpu(gpu) => gpu.run_into(config, progress, batch, gradient),
            Self::Cpu { cpu, .. } => cpu.run_into(config, progress, batch, gradient),
        }
    }
}
