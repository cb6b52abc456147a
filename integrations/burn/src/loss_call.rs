//! The arguments of a call besides its tensors.

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
