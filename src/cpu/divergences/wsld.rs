//! The cross-entropy of student and teacher, times `w = 1 - e^(- CE / (CE of the teacher + 1e-7))`, which has no gradient. `CE` is the
//! cross-entropy with the label at the hard part's temperature.

use super::soft_cross_entropy;
use crate::RowStats;
use crate::cpu::part::{LabelOdds, LogOdds, Part, share};

fn weight(student: LogOdds, teacher: LogOdds) -> f64 {
    let (student, teacher) = (-student.ln_p(), -teacher.ln_p());
    // Both may be infinite.
    if student == f64::INFINITY {
        return 1.0;
    }
    -(-student / (teacher + 1e-7)).exp_m1()
}

pub(super) fn part(stats: &RowStats, odds: &LabelOdds) -> Part {
    let (s, t) = (odds.student, odds.teacher);
    let weight = weight(odds.student_hard, odds.teacher_hard);
    let difference = match s.p() > 0.5 {
        true => t.rest() - s.rest(),
        false => s.p() - t.p(),
    };
    Part {
        value: share(weight, soft_cross_entropy::part(stats).value),
        student: weight * s.rest(),
        teacher: weight * t.rest(),
        label: weight * difference,
        ..Part::default()
    }
}
