//! The arguments of a call besides logits and labels.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};
use wgpu_distill::{Config, Progress};

use crate::execution_path::ExecutionPath;

/// One call of the loss, without its tensors. Burn's dispatch carries it to the backend.
#[derive(Clone, Debug)]
pub struct LossCall {
    pub(crate) config: Config,
    pub(crate) progress: Progress,
    pub(crate) path: ExecutionPath,
    /// Rows have metrics.
    pub(crate) row_metrics: bool,
}

/// The weights of the rows. An enum, since Burn's fusion carries no `Option` of a tensor.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum RowWeights<B: Backend> {
    /// Each row counts as it is.
    None,
    /// `f32 [rows]`
    Each(FloatTensor<B>),
}

impl<B: Backend> RowWeights<B> {
    pub(crate) fn of(weights: Option<FloatTensor<B>>) -> Self {
        weights.map_or(Self::None, Self::Each)
    }

    pub(crate) fn tensor(self) -> Option<FloatTensor<B>> {
        match self {
            Self::None => None,
            Self::Each(weights) => Some(weights),
        }
    }
}
