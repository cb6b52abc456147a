//! A progress that follows a training loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wgpu_distill::Progress;

/// Counts a training loop's steps and gives the loss its [`Progress`]. Clones count together.
///
/// Keep one beside the model (`#[module(skip)]`), take [`advance`](Self::advance) in the training step and [`now`](Self::now) in the validation step.
#[derive(Clone, Debug)]
pub struct TrainingSteps {
    done: Arc<AtomicU64>,
    total: u64,
}

impl TrainingSteps {
    /// A training of `total` steps: epochs times batches an epoch. 0 counts as 1.
    pub fn new(total: u64) -> Self {
        Self::resumed(0, total)
    }

    /// A training of `total` steps of which `done` are done, after loading a checkpoint.
    pub fn resumed(done: u64, total: u64) -> Self {
        let total = total.max(1);
        Self {
            done: Arc::new(AtomicU64::new(done.min(total))),
            total,
        }
    }

    /// Where training is, for validation.
    pub fn now(&self) -> Progress {
        Progress::new(
            self.done.load(Ordering::Relaxed).min(self.total),
            self.total,
        )
    }

    /// Where training is, for the step that begins; counts it. Beyond the last step it stays at the end.
    pub fn advance(&self) -> Progress {
        let next = |done: u64| Some(done.saturating_add(1).min(self.total));
        let done = self
            .done
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .unwrap_or_else(|done| done);
        Progress::new(done, self.total)
    }
}
