//! The arguments of a step on a slice of the classes.

use burn::backend::{Backend, Dispatch, ExtensionType};
use burn::tensor::{Int, Tensor};
use wgpu_distill::plan::ShardStep;
use wgpu_distill::{RowStats, Shard, SweepSums};

use crate::kernel_inputs::{Arguments, KernelInputs, OptionalInt};
use crate::loss_call::LossCall;

/// Words of a [`RowStats`].
pub(crate) const STATS_WORDS: usize = size_of::<RowStats>() / 4;
/// Words of a [`SweepSums`].
pub(crate) const SUMS_WORDS: usize = size_of::<SweepSums>() / 4;

/// A step on a slice, without its tensors. Burn's dispatch carries it to the backend.
#[derive(Clone, Debug)]
pub struct ShardCall {
    pub(crate) call: LossCall,
    pub(crate) shard: Shard,
    pub(crate) step: ShardStep,
    pub(crate) shards: usize,
}

impl ShardCall {
    /// Words of the record that the step writes for each row, before the last step.
    pub(crate) fn record_words(&self) -> usize {
        match self.step {
            ShardStep::Observe => STATS_WORDS,
            ShardStep::Sweep | ShardStep::Apply => SUMS_WORDS,
        }
    }
}

/// The tensors of a step.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct ShardInputs<B: Backend> {
    #[extension_type]
    pub batch: KernelInputs<B>,
    /// `i32 [shards * rows, STATS_WORDS]`, the statistics of all shards, but in the first step.
    #[extension_type]
    pub row_stats: OptionalInt<B>,
    /// `i32 [shards * rows, SUMS_WORDS]`, in the last step of a loss of two sweeps.
    #[extension_type]
    pub sweep_sums: OptionalInt<B>,
}

/// Records of all shards, `i32 [shards * rows, words]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gathered {
    pub row_stats: Option<Tensor<2, Int>>,
    pub sweep_sums: Option<Tensor<2, Int>>,
}

impl Gathered {
    pub fn inputs(&self, arguments: Arguments) -> ShardInputs<Dispatch> {
        ShardInputs {
            batch: arguments.into_kernel_inputs(),
            row_stats: OptionalInt::of(self.row_stats.clone()),
            sweep_sums: OptionalInt::of(self.sweep_sums.clone()),
        }
    }
}
