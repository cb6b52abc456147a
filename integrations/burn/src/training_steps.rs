//! Optimiser steps counted for the loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wgpu_distill::Progress;

/// Counts the optimiser steps of a training loop and gives the loss its [`Progress`]. Clones share the count.
///
/// Keep one in the model with `#[module(skip)]`. Call [`advance`](Self::advance) once for each batch in the training step and
/// [`now`](Self::now) in the validation step. Steps beyond the total count as the last one, so that a schedule with
/// a number of steps rounded down does not stop the training.
#[derive(Clone, Debug)]
pub struct TrainingSteps {
    /// Batches begun.
    batches: Arc<AtomicU64>,
    batches_per_epoch: u64,
    batches_per_step: u64,
    total: u64,
}

impl TrainingSteps {
    /// A training of `total` steps, one for each batch: epochs times batches per epoch. A training of 0 steps is at its end.
    pub fn new(total: u64) -> Self {
        Self {
            batches: Arc::default(),
            batches_per_epoch: u64::MAX,
            batches_per_step: 1,
            total,
        }
    }

    /// A training with gradient accumulation: the optimiser steps after `batches_per_step` batches and at the end of each epoch, as Burn's
    /// learner does with `grads_accumulation`. All batches of one step have the same progress.
    ///
    /// With several devices a step has the accumulation times the number of devices. A number of 0 batches counts as 1.
    ///
    /// ```
    /// use burn_distill::TrainingSteps;
    ///
    /// // 2 epochs of 5 batches, 2 batches a step: 3 steps an epoch.
    /// let steps = TrainingSteps::accumulating(2, 5, 2);
    /// let seen: Vec<u64> = (0..10).map(|_| steps.advance().step).collect();
    /// assert_eq!(seen, [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]);
    /// assert_eq!(steps.now().tstr(), 1.0);
    /// ```
    pub fn accumulating(epochs: u64, batches_per_epoch: u64, batches_per_step: u64) -> Self {
        let (batches_per_epoch, batches_per_step) =
            (batches_per_epoch.max(1), batches_per_step.max(1));
        Self {
            batches: Arc::default(),
            batches_per_epoch,
            batches_per_step,
            total: epochs.saturating_mul(batches_per_epoch.div_ceil(batches_per_step)),
        }
    }

    /// A training of `total` steps resumed after `done` steps, as from a checkpoint.
    pub fn resumed(done: u64, total: u64) -> Self {
        Self::new(total).resumed_after(done)
    }

    /// The training resumed after this number of batches, as from a checkpoint.
    pub fn resumed_after(self, batches: u64) -> Self {
        Self {
            batches: Arc::new(AtomicU64::new(batches)),
            ..self
        }
    }

    /// The progress after the optimiser steps of the batches counted so far.
    pub fn now(&self) -> Progress {
        self.after(self.batches.load(Ordering::Relaxed))
    }

    /// The progress of the step to which the next batch belongs. Counts the batch.
    pub fn advance(&self) -> Progress {
        self.after(self.batches.fetch_add(1, Ordering::Relaxed))
    }

    fn after(&self, batches: u64) -> Progress {
        let steps_per_epoch = self.batches_per_epoch.div_ceil(self.batches_per_step);
        let (epochs, rest) = (
            batches / self.batches_per_epoch,
            batches % self.batches_per_epoch,
        );
        let steps = epochs
            .saturating_mul(steps_per_epoch)
            .saturating_add(rest / self.batches_per_step);
        Progress::clamped(steps, self.total)
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

    /// Burn's learner steps after the accumulation and at the end of an epoch, whose last step may have fewer batches.
    #[test]
    fn batches_of_one_step_have_one_progress() {
        for (batches, per_step) in [(5, 2), (6, 3), (4, 7), (1, 1), (3, 1)] {
            let epochs = 3;
            let steps = TrainingSteps::accumulating(epochs, batches, per_step);
            let mut want = 0;
            let mut accumulated = 0;
            for _ in 0..epochs {
                for batch in 1..=batches {
                    assert_eq!(steps.now().step, want);
                    assert_eq!(steps.advance().step, want);
                    accumulated += 1;
                    if accumulated == per_step || batch == batches {
                        accumulated = 0;
                        want += 1;
                    }
                }
            }
            assert_eq!(steps.now(), Progress::new(want, want), "{batches} batches");
            let resumed = TrainingSteps::accumulating(epochs, batches, per_step);
            let resumed = resumed.resumed_after(batches);
            assert_eq!(resumed.now().step, batches.div_ceil(per_step));
        }
        assert_eq!(
            TrainingSteps::accumulating(2, 0, 0).now(),
            Progress::new(0, 2)
        );
    }
}
