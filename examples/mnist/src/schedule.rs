//! The lengths and the learning rate of a training.

use wgpu_distill::Progress;

/// Digits, epochs, batch size and learning rate of a training.
pub struct Schedule {
    /// Number of training digits; the first ones are used.
    pub digits: usize,
    /// Rounds over them.
    pub epochs: usize,
    /// Digits of a step.
    pub batch: usize,
    /// True if every epoch warps the digits anew.
    pub warp: bool,
    /// The learning rate of the first step. It decreases linearly to 0.
    pub learning_rate: f32,
}

impl Schedule {
    /// Steps of the whole training.
    pub fn steps(&self) -> u64 {
        (self.epochs * self.digits.div_ceil(self.batch)) as u64
    }

    /// The learning rate at this progress.
    pub fn rate(&self, progress: Progress) -> f32 {
        self.learning_rate * (1.0 - progress.tstr())
    }
}
