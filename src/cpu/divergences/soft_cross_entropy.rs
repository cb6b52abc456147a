//! `- sum q ln p = ln zs + (A - B) / zt`

use crate::RowStats;
use crate::cpu::part::Part;

#[inline(always)]
pub(super) fn part(stats: &RowStats) -> Part {
    let value = if stats.masked_mass > 0.0 {
        f64::INFINITY
    } else {
        let difference = f64::from(stats.difference) - f64::from(stats.moment);
        f64::from(stats.student_sum).ln() + difference / f64::from(stats.teacher_sum)
    };
    Part {
        value,
        student: 1.0,
        teacher: 1.0,
        ..Part::default()
    }
}
