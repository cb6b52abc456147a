//! `(alpha sum q^(alpha+beta) + beta sum p^(alpha+beta)) / ((alpha + beta) alpha beta) - sum q^alpha p^beta / (alpha beta)`

use crate::RowStats;
use crate::cpu::part::Part;

pub(super) fn part(stats: &RowStats, alpha: f64, beta: f64) -> Part {
    let (log_zs, log_zt) = (
        f64::from(stats.student_sum).ln(),
        f64::from(stats.teacher_sum).ln(),
    );
    let both = alpha + beta;
    let cross = f64::from(stats.power_cross) * (-alpha * log_zt - beta * log_zs).exp();
    let student = f64::from(stats.student_power) * (-both * log_zs).exp();
    let teacher = f64::from(stats.teacher_power) * (-both * log_zt).exp();
    let mean = (alpha * teacher + beta * student) / both;
    Part {
        value: ((mean - cross) / (alpha * beta)).max(0.0),
        student: (cross - student) / alpha,
        teacher: 0.0,
        first: -1.0 / alpha,
        second: 1.0 / alpha,
        ..Part::default()
    }
}
