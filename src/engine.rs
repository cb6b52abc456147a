//! One door for GPU and CPU.

use crate::cpu::Cpu;
use crate::gpu::Gpu;
use crate::{Batch, Config, Decision, Distillation, Logits, Outputs, Progress, Result, RowStats};

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

    /// The best hardware GPU, else the CPU path; [`describe`](Self::describe) says which and why. Software adapters, a browser's fallback
    /// adapter among them, are only used when asked for by name.
    pub async fn auto_async() -> Self {
        match Gpu::hardware().await {
            Ok(gpu) => Self::Gpu(gpu),
            Err(error) => Self::Cpu {
                cpu: Cpu::new(),
                reason: error.to_string(),
            },
        }
    }

    /// The first adapter, hardware before software, whose [name](crate::gpu::AdapterDescription::name) contains `name` in upper or
    /// lower case. In a browser `"WebGPU"` names the adapter that the browser gives.
    ///
    /// # Errors
    /// [`Error::NoAdapter`](crate::Error::NoAdapter) with the names of all adapters, also for an empty `name`.
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

    /// The kernel `softmax` on its own, without blocking: `softmax(logits / temperature)`, `[rows, classes]` close together.
    ///
    /// # Errors
    /// As for [`run_async`](Self::run_async).
    pub async fn softmax_async(
        &self,
        logits: &Logits<'_>,
        rows: usize,
        temperature: f32,
    ) -> Result<Vec<f32>> {
        match self {
            Self::Gpu(gpu) => gpu.softmax_async(logits, rows, temperature).await,
            Self::Cpu { cpu, .. } => cpu.softmax(logits, rows, temperature),
        }
    }

    /// The kernel `observe` on its own (observe), without blocking: each row's mergeable statistics and its KDR.
    ///
    /// # Errors
    /// As for [`run_async`](Self::run_async).
    pub async fn observe_async(&self, config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
        match self {
            Self::Gpu(gpu) => gpu.observe_async(config, batch).await,
            Self::Cpu { cpu, .. } => cpu.observe(config, batch),
        }
    }

    /// The kernel `decide` on its own (decide), without blocking: TSSR, loss and gradient coefficients of each row. `classes` are the student's.
    ///
    /// # Errors
    /// As for [`run_async`](Self::run_async).
    pub async fn decide_async(
        &self,
        config: &Config,
        progress: Progress,
        row_stats: &[RowStats],
        classes: usize,
    ) -> Result<Vec<Decision>> {
        match self {
            Self::Gpu(gpu) => gpu.decide_async(config, progress, row_stats, classes).await,
            Self::Cpu { cpu, .. } => cpu.decide(config, progress, row_stats, classes),
        }
    }

    /// The kernel `apply` on its own (apply), without blocking: the gradient `[rows, classes]` from each row's decision.
    ///
    /// # Errors
    /// As for [`run_async`](Self::run_async).
    pub async fn apply_async(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        match self {
            Self::Gpu(gpu) => gpu.apply_async(config, batch, decisions).await,
            Self::Cpu { cpu, .. } => cpu.apply(config, batch, decisions),
        }
    }
}
