//! Training steps counted for the loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wgpu_distill::Progress;

/// Counts the steps of a training loop and gives the loss its [`Progress`]. Clones share the count.
///
/// Keep one in the model with `#[module(skip)]`. Call [`advance`](Self::advance) in the training step and
/// [`now`](Self::now) in the validation step. Steps beyond the total count as the last one, so that a schedule with
/// a number of steps rounded down does not stop the training.
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

#[cfg(test)]
mod tests {
    use super::{Progress, TrainingSteps};

    #[test]
    fn training_steps_count_to_their_total_and_stay_there() {
        let steps = TrainingSteps::new(3);
        let clone = steps.clone();
        let seen: Vec<u64> = (0..5).map(|_| steps.advance().step).collect();
        assert_eq!(seen, [0, 1, 2, 3, 3]);
        assert_eq!(clone.now(), Progress::new(3, 3));
        let resumed = TrainingSteps::resumed(2, 10);
        assert_eq!(resumed.advance(), Progress::new(2, 10));
        assert_eq!(resumed.now(), Progress::new(3, 10));
        // A training without steps is at its end, and so is one resumed beyond it.
        assert_eq!(TrainingSteps::new(0).now().tstr(), 1.0);
        assert_eq!(TrainingSteps::resumed(7, 5).advance(), Progress::new(5, 5));
    }
}
