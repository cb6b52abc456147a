//! The soft part of a row: its value, and the coefficients of its gradient.

use crate::RowStats;

/// The soft part of a row. Its gradient with respect to the logits over the temperature is
/// `student p - teacher q + first f1 + second f2`, with the terms of the divergence's shape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Part {
    /// In nats; may be `+inf`.
    pub value: f64,
    pub student: f64,
    pub teacher: f64,
    pub first: f64,
    pub second: f64,
}

impl Part {
    /// An infinite value without a gradient.
    pub const NO_GRADIENT: Self = Self {
        value: f64::INFINITY,
        student: f64::NAN,
        teacher: f64::NAN,
        first: f64::NAN,
        second: f64::NAN,
    };
}

/// `weight * term`, 0 for a weight of 0 even if the term is infinite.
pub(super) fn share(weight: f64, term: f64) -> f64 {
    if weight == 0.0 { 0.0 } else { weight * term }
}

/// `KL(p, q)`; infinite if the teacher masks a class that the student does not.
pub(super) fn reverse_kl(stats: &RowStats) -> f64 {
    if stats.unseen_mass > 0.0 {
        return f64::INFINITY;
    }
    let (zs, zt) = (f64::from(stats.student_sum), f64::from(stats.teacher_sum));
    (f64::from(stats.reverse_difference) / zs - zs.ln() + zt.ln()).max(0.0)
}

/// `sum min(p, q)` and `sum p [p < q]`, the sums of the second sweep of divergences with the shape `Sign`. The gradient of
/// `sum min(p, q)` is `f1 - (sum p [p < q]) p`.
pub(super) fn overlap(stats: &RowStats) -> (f64, f64) {
    let overlap = f64::from(stats.sweep_first).clamp(0.0, 1.0);
    (overlap, f64::from(stats.sweep_second))
}
