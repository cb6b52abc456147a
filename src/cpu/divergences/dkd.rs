//! `alpha TCKD + beta NCKD`, from the sums of the classes beside the label.

use crate::RowStats;
use crate::cpu::part::{LabelOdds, Part, share};

pub(super) fn part(stats: &RowStats, odds: &LabelOdds, alpha: f64, beta: f64) -> Part {
    let (s, t) = (odds.student, odds.teacher);
    let divergence = |q: f64, ln_q: f64, ln_p: f64| share(q, ln_q - ln_p);
    let target =
        divergence(t.p(), t.ln_p(), s.ln_p()) + divergence(t.rest(), t.ln_rest(), s.ln_rest());
    let difference = match s.p() > 0.5 {
        true => t.rest() - s.rest(),
        false => s.p() - t.p(),
    };
    let (zs, zt) = (
        f64::from(stats.rest_student_sum),
        f64::from(stats.rest_teacher_sum),
    );
    let mut part = Part {
        value: share(alpha, target.max(0.0)),
        student: -alpha * difference,
        label: alpha * difference,
        ..Part::default()
    };
    if stats.rest_masked_mass > 0.0 {
        part.value += share(beta, f64::INFINITY);
    }
    if zs > 0.0 && zt > 0.0 {
        if stats.rest_masked_mass == 0.0 {
            let others = f64::from(stats.rest_difference) / zt - zt.ln() + zs.ln();
            part.value += beta * others.max(0.0);
        }
        part.student += beta;
        part.teacher = beta;
    }
    part
}
