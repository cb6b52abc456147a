//! `KL(m, p)` with `m = softmax(share t + (1 - share) s)`, the student's logits in `m` constant for the gradient

use crate::RowStats;
use crate::cpu::part::Part;

/// The smallest sum; terms that are smaller may be 0 in f32.
const LEAST: f64 = 1.2e-38;

pub(super) fn part(stats: &RowStats, share: f64) -> Part {
    let sum = f64::from(stats.power_cross);
    if sum < LEAST {
        // No class has both p and q, or the sum is below f32: `m` has no class at all.
        return Part::NO_GRADIENT;
    }
    let (log_zs, log_zt) = (
        f64::from(stats.student_sum).ln(),
        f64::from(stats.teacher_sum).ln(),
    );
    let difference = f64::from(stats.power_difference) / sum;
    // `m = q^share p^(1 - share) / mass`. Half of the mass divides p and q, because all of it would take the product with a loss scale
    // beyond f32.
    let log_mass = sum.ln() - share * log_zt - (1.0 - share) * log_zs;
    let inverse = (-0.5 * log_mass).exp();
    Part {
        value: (share * difference - sum.ln() + log_zs).max(0.0),
        student: 1.0,
        first: -inverse,
        inverse,
        ..Part::default()
    }
}
