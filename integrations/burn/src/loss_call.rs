//! The arguments of a call besides its tensors.

use burn::tensor::DType;
use wgpu_distill::{Config, Progress, Reduction};

use crate::execution_path::ExecutionPath;

/// One call of the loss, without its tensors. Burn's dispatch carries it to the backend.
#[derive(Clone, Debug)]
pub struct LossCall {
    pub(crate) config: Config,
    pub(crate) progress: Progress,
    pub(crate) path: ExecutionPath,
    /// Rows have metrics.
    pub(crate) row_metrics: bool,
    /// KDR is an output, also where the selection does not need it.
    pub(crate) reports_kdr: bool,
    /// The caller divides loss and gradient after the kernels.
    pub(crate) divided_later: bool,
}

impl LossCall {
    /// The type in which the gradient waits for the backward. It stays f32 if the backward multiplies it by numbers that the kernels do not
    /// know, so that 16-bit gradients are rounded once.
    pub(crate) fn gradient_type(&self, student: DType) -> DType {
        let later = self.divided_later || self.config.reduction == Reduction::None;
        match student {
            DType::F16 | DType::BF16 if later => DType::F32,
            _ => student,
        }
    }
}
