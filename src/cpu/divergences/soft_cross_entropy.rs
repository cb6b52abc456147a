//! `- sum q ln p = ln zs - S / zt`, with weights of classes `- sum v q ln p = (zv ln zs - Sv) / zt`

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

/// With weights of classes.
pub(super) fn weighted_part(stats: &RowStats) -> Part {
    let f = f64::from;
    let (zs, zt) = (f(stats.student_sum), f(stats.teacher_sum));
    let (live, masked) = (f(stats.weighted_teacher), f(stats.weighted_masked));
    let value = match masked > 0.0 {
        true => f64::INFINITY,
        false => (live * zs.ln() - f(stats.weighted_soft)) / zt,
    };
    Part {
        value,
        student: (live + masked) / zt,
        teacher: 1.0,
        ..Part::default()
    }
}
