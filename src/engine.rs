//! One type for the GPU and the CPU path.

use crate::cpu::Cpu;
#[cfg(feature = "gpu")]
use crate::gpu::Gpu;
use crate::{Batch, Config, Distillation, Outputs, OutputsMut, Progress, Result, Summary};

/// The processor that computes: a GPU or the CPU path. It is chosen once and never changes silently.
///
/// Single steps (softmax, observe, decide, apply) are methods of [`Gpu`](crate::gpu::Gpu) and [`Cpu`]. Without the feature `gpu` there is
/// only the CPU path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Engine {
    /// A hardware GPU, or a software adapter that the caller named.
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
    /// The CPU path.
    Cpu {
        /// The engine.
        cpu: Cpu,
        /// The reason for the choice; empty if the caller requested the CPU path.
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

    /// Selects the best hardware GPU, else the CPU path. [`describe`](Self::describe) gives the choice and its reason.
    /// Software adapters, including a browser's fallback adapter, are used only if named.
    #[cfg(feature = "gpu")]
    pub async fn auto_async() -> Self {
        match Gpu::hardware().await {
            Ok(gpu) => Self::Gpu(gpu),
            Err(error) => Self::Cpu {
                cpu: Cpu::new(),
                reason: error.to_string(),
            },
        }
    }

    /// The CPU path: this build has no feature `gpu`.
    #[cfg(not(feature = "gpu"))]
    pub async fn auto_async() -> Self {
        Self::without_gpu()
    }

    #[cfg(not(feature = "gpu"))]
    fn without_gpu() -> Self {
        Self::Cpu {
            cpu: Cpu::new(),
            reason: "built without the feature `gpu`".to_owned(),
        }
    }

    /// Selects the first adapter, hardware before software, whose name contains `name` in upper or lower case. In a browser
    /// `"WebGPU"` selects the browser's adapter.
    ///
    /// # Errors
    /// [`Error::NoAdapter`](crate::Error::NoAdapter) with the available names if none matches or `name` is blank.
    #[cfg(feature = "gpu")]
    pub async fn gpu_async(name: &str) -> Result<Self> {
        Ok(Self::Gpu(Gpu::named(name).await?))
    }

    /// The engine's name and abilities. For a CPU path that the caller did not request, also the reason.
    pub fn describe(&self) -> String {
        match self {
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.describe(),
            Self::Cpu { cpu, reason } if reason.is_empty() => cpu.describe(),
            Self::Cpu { cpu, reason } => format!("{}; {reason}", cpu.describe()),
        }
    }

    /// [`run`](Self::run) without blocking. The CPU path computes during the first poll.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub async fn run_async(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        match self {
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.run_async(config, progress, batch, outputs).await,
            Self::Cpu { cpu, .. } => cpu.run(config, progress, batch, outputs),
        }
    }

    /// [`run_into`](Self::run_into) without blocking. The CPU path computes during the first poll.
    ///
    /// # Errors
    /// As for [`run_into`](Self::run_into).
    pub async fn run_into_async(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        match self {
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.run_into_async(config, progress, batch, outputs).await,
            Self::Cpu { cpu, .. } => cpu.run_into(config, progress, batch, outputs),
        }
    }
}

/// Blocking calls. A browser cannot block, so it has only the `_async` forms.
#[cfg(not(target_arch = "wasm32"))]
impl Engine {
    /// Selects the best hardware GPU, else the CPU path. [`describe`](Self::describe) gives the choice and its reason.
    /// Software adapters are used only if named.
    #[cfg(feature = "gpu")]
    pub fn auto() -> Self {
        pollster::block_on(Self::auto_async())
    }

    /// The CPU path: this build has no feature `gpu`.
    #[cfg(not(feature = "gpu"))]
    pub fn auto() -> Self {
        Self::without_gpu()
    }

    /// Selects the first adapter, hardware before software, whose name contains `name` in upper or lower case.
    ///
    /// # Errors
    /// [`Error::NoAdapter`](crate::Error::NoAdapter) with the available names if none matches or `name` is blank.
    #[cfg(feature = "gpu")]
    pub fn gpu(name: &str) -> Result<Self> {
        pollster::block_on(Self::gpu_async(name))
    }

    /// Computes the whole method: loss, KDR, TSSR and the requested `outputs`.
    ///
    /// # Errors
    /// Arguments are checked before anything runs. The error names the bad argument and its values. Errors of the device can follow.
    pub fn run(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        match self {
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.run(config, progress, batch, outputs),
            Self::Cpu { cpu, .. } => cpu.run(config, progress, batch, outputs),
        }
    }

    /// Computes the whole method and writes the outputs to the caller's memory.
    ///
    /// Reusing that memory from step to step saves its allocation, which on the CPU can cost as much as the arithmetic.
    /// With [`GradWrite::Accumulate`](crate::GradWrite::Accumulate) the gradient is added in f32 to the memory's contents, and each sum is rounded
    /// once. Elements between the rows of the gradient do not change.
    ///
    /// # Errors
    /// As for [`run`](Self::run), and for memory whose shape differs from the batch. The memory is unchanged if an argument is refused.
    /// After an error of the device it may hold the results of some rows.
    pub fn run_into(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        match self {
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.run_into(config, progress, batch, outputs),
            Self::Cpu { cpu, .. } => cpu.run_into(config, progress, batch, outputs),
        }
    }
}

#[cfg(all(test, not(feature = "gpu")))]
mod tests {
    use super::*;

    /// Without the feature `gpu`, `auto` selects the CPU path and gives the reason.
    #[test]
    fn auto_is_the_cpu_path() {
        let engine = Engine::auto();
        assert!(
            engine
                .describe()
                .ends_with("; built without the feature `gpu`")
        );
        let batch = Batch::new(&[0.0f32, 1.0], &[1.0f32, 0.0], &[1], 2);
        let run = |engine: &Engine| {
            let (config, progress) = (Config::default(), Progress::new(1, 2));
            engine.run(&config, progress, &batch, Outputs::ALL)
        };
        let done = run(&engine).expect("valid");
        assert!(done.summary.loss > 0.0);
        assert_eq!(Ok(done), run(&Engine::cpu()));
    }
}
