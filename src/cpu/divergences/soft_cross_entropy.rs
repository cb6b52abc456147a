//! `- sum q ln p = ln zs - S / zt`

use crate::RowStats;
use crate::cpu::part::Part;

#[inline(always)]
pub(super) fn part(stats: &RowStats) -> Part {
    let value = if stats.masked_mass > 0.0 {
        f64::INFINITY
    } else {
        let (zs, zt) = (f64::from(stats.student_sum), f64::from(stats.teacher_sum));
        zs.ln() - f64::from(stats.soft_moment) / zt
    };
    Part {
        value,
        student: 1.0,
        teacher: 1.0,
        ..Part::default()
    }
}
