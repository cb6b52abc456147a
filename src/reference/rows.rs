//! Statistics and outcome of a row in f64.

use crate::flags;

/// Metrics of one row of student and teacher (METHOD, section 3).
#[derive(Clone, Debug, PartialEq)]
pub struct RowStats {
    /// `ln sum e^s` with `s` the student's logits over its temperature.
    pub student_lse: f64,
    /// `ln sum e^t` with `t` the teacher's logits over its temperature.
    pub teacher_lse: f64,
    /// `KL(q, p) = sum q ln(q / p)`
    pub kl: f64,
    /// The teacher's entropy, `- sum q ln q`.
    pub teacher_entropy: f64,
    /// The similarity, in `[0, 1]`; 0 for ignored rows.
    pub kdr: f64,
    /// `IGNORED`, `INVALID_LABEL` and `NON_FINITE` of [`flags`].
    pub flags: u32,
}

/// One row's outcome in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowResult {
    /// Before reduction, with temperature scaling and the row's weight.
    pub loss: f64,
    /// In `[0, 1]`.
    pub kdr: f64,
    /// In `[0, 1]`.
    pub tssr: f64,
    /// The derivative of TSSR with respect to KDR that the gradient passes through; 0 if TSSR is detached.
    pub tssr_slope: f64,
    /// `IGNORED`, `INVALID_LABEL`, `NON_FINITE`, `NO_GRADIENT`, `SKIPPED` and `CLAMPED` of [`flags`].
    pub flags: u32,
}

impl RowResult {
    pub(super) fn counts(&self) -> bool {
        self.flags & (flags::IGNORED | flags::INVALID_LABEL) == 0
    }

    pub(super) fn is_averaged(&self) -> bool {
        self.counts() && self.flags & (flags::NON_FINITE | flags::SKIPPED) == 0
    }
}
