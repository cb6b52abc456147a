//! `KL(q, m)` with `m = alpha q + (1 - alpha) p`. The sums of the second sweep are `KL(q, m)` and `sum p q / m`.

use crate::RowStats;
use crate::cpu::part::Part;

pub(super) fn part(stats: &RowStats, alpha: f64) -> Part {
    Part {
        value: f64::from(stats.sweep_first),
        student: (1.0 - alpha) * f64::from(stats.sweep_second),
        second: -(1.0 - alpha),
        ..Part::default()
    }
}
