//! `KL(p, m)` with `m = alpha p + (1 - alpha) q`. The sums of the second sweep are `KL(p, m)` and `sum p q / m`.

use crate::RowStats;
use crate::cpu::part::Part;

pub(super) fn part(stats: &RowStats, alpha: f64) -> Part {
    let kl = f64::from(stats.sweep_first);
    Part {
        value: kl,
        student: -(kl + (1.0 - alpha) * f64::from(stats.sweep_second)),
        first: 1.0,
        second: 1.0 - alpha,
        ..Part::default()
    }
}
