//! Training time.

/// Training time: `TSTR = step / total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Progress {
    /// Steps done, at most `total`.
    pub step: u64,
    /// Steps of the whole training, at least 1. 0 only in [`Progress::NONE`].
    pub total: u64,
}

impl Progress {
    /// No training time, `0` of `0`. Accepted by selections that do not depend on it, see
    /// [`Selection::needs_progress`](crate::Selection::needs_progress).
    pub const NONE: Self = Self { step: 0, total: 0 };

    /// `step` of `total`. A call refuses a step beyond the total, and a total of 0.
    pub fn new(step: u64, total: u64) -> Self {
        Self { step, total }
    }

    /// `step` of `total`. A step beyond the total counts as the last. A total of 0 gives the end of the training, 1 of 1.
    pub fn clamped(step: u64, total: u64) -> Self {
        match total {
            0 => Self::new(1, 1),
            _ => Self::new(step.min(total), total),
        }
    }

    /// The elapsed share of training time (TSTR), in `[0, 1]`; 0 for [`Progress::NONE`].
    pub fn tstr(self) -> f32 {
        if self == Self::NONE {
            return 0.0;
        }
        (self.step as f64 / self.total as f64) as f32
    }
}
