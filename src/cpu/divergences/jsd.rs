//! `beta KL(q, m) + (1 - beta) KL(p, m)`. The sums of the second sweep are `KL(p, m)` and `KL(q, m)`.

use crate::RowStats;
use crate::cpu::part::Part;

pub(super) fn part(stats: &RowStats, beta: f64) -> Part {
    let of_student = f64::from(stats.sweep_first);
    let of_teacher = f64::from(stats.sweep_second);
    Part {
        value: beta * of_teacher + (1.0 - beta) * of_student,
        student: -(1.0 - beta) * of_student,
        first: 1.0 - beta,
        ..Part::default()
    }
}
