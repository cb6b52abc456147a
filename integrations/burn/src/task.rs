//! What travels with the tensors to a backend.

use burn::tensor::DType;
use wgpu_distill::{Config, Progress, Storage};

use crate::Path;

/// One call's choices.
#[derive(Clone, Debug)]
pub struct Task {
    pub(crate) config: Config,
    pub(crate) progress: Progress,
    pub(crate) path: Path,
}

/// How the kernels read and write a type of tensor.
pub(crate) fn storage(dtype: DType) -> Option<Storage> {
    match dtype {
        // Burn's flex32 is f32 in memory.
        DType::F32 | DType::Flex32 => Some(Storage::F32),
        DType::F16 => Some(Storage::F16),
        DType::BF16 => Some(Storage::Bf16),
        _ => None,
    }
}
