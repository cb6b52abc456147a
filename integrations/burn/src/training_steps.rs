//! Training steps counted for the loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wgpu_distill::Progress;

/// Counts the steps of a training loop and gives the loss its [`Progress`]. Clones share the count.
///
/// Keep one in the model with `#[module(skip)]`. Call [`advance`](Self::advance) in the training step and
/// [`now`](Self::now) in the validation step. Steps beyond the total count as the last one, so that a schedule which
/// rounds its number of steps down does not stop the training.
#[derive(Clone, Debug)]
pub struct TrainingSteps {
    done: Arc<AtomicU64>,
    total: u64,
}

impl TrainingSteps {
    /// A training of `total` steps: epochs times batches per epoch. A training of 0 steps is at its end.
    pub fn new(total: u64) -> Self {
        Self::resumed(0, total)
    }

    /// A training of `total` steps resumed after `done` steps, as from a checkpoint.
    pub fn resumed(done: u64, total: u64) -> Self {
        Self {
            done: Arc::new(AtomicU64::new(done)),
            total,
        }
    }

    /// The progress after the steps counted so far.
    pub fn now(&self) -> Progress {
        Progress::clamped(self.done.load(Ordering::Relaxed), self.total)
    }

    /// The progress of the step that begins. Counts the step.
    pub fn advance(&self) -> Progress {
        Progress::clamped(self.done.fetch_add(1, Ordering::Relaxed), self.total)
    }
}
