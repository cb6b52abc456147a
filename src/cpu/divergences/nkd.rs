//! `gamma` times the cross-entropy of the classes beside the label, and the hard part times `1 + q` of the label.

use crate::RowStats;
use crate::cpu::part::{LabelOdds, Part};

pub(super) fn part(stats: &RowStats, odds: &LabelOdds, gamma: f64) -> Part {
    let mut part = Part {
        hard: 1.0 + odds.teacher_hard.p(),
        ..Part::default()
    };
    let (zs, zt) = (
        f64::from(stats.rest_student_sum),
        f64::from(stats.rest_teacher_sum),
    );
    if zs > 0.0 && zt > 0.0 {
        part.value = gamma * (zs.ln() - f64::from(stats.rest_soft_moment) / zt);
        part.student = gamma;
        part.teacher = gamma;
    }
    if stats.rest_masked_mass > 0.0 {
        part.value = f64::INFINITY;
    }
    part
}
