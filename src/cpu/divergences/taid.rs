//! `KL(m, p)` with `m = softmax(share t + (1 - share) s)`, the student's logits in `m` constant for the gradient

use crate::RowStats;
use crate::cpu::part::Part;

pub(super) fn part(stats: &RowStats, share: f64) -> Part {
    let sum = f64::from(stats.power_cross);
    if sum == 0.0 {
        // No class has both p and q, and `m` has no class at all.
        return Part::NO_GRADIENT;
    }
    let (log_zs, log_zt) = (
        f64::from(stats.student_sum).ln(),
        f64::from(stats.teacher_sum).ln(),
    );
    let difference = f64::from(stats.power_difference) / sum;
    Part {
        value: (share * difference - sum.ln() + log_zs).max(0.0),
        student: 1.0,
        // `m = (q^share p^(1 - share)) / its sum`
        first: -(share * log_zt + (1.0 - share) * log_zs).exp() / sum,
        ..Part::default()
    }
}
