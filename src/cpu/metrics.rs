//! Metrics of a row from its statistics.

use super::decide::Rule;
use crate::{RowMetrics, RowResult, RowStats, flags};

impl Rule {
    /// The metrics of a row, observed with the moments of the metrics and decided.
    pub fn metrics(&self, stats: &RowStats, result: &RowResult) -> RowMetrics {
        if result.flags & (flags::IGNORED | flags::SKIPPED) != 0 {
            return RowMetrics::default();
        }
        if !result.is_averaged() {
            return RowMetrics::of([f32::NAN; RowMetrics::COUNT]);
        }
        let config = self.config();
        let zs = f64::from(stats.student_sum);
        let student_entropy = zs.ln() - f64::from(stats.student_moment) / zs;
        let (hard, soft) = self.parts(stats);
        let one = |yes: bool| f64::from(u8::from(yes));
        let sampled = config.divergence.is_sampled();
        let of_teacher = |yes| if sampled { f64::NAN } else { one(yes) };
        let values: [f64; RowMetrics::COUNT] = [
            stats.kl(),
            stats.teacher_entropy(),
            student_entropy,
            hard,
            soft,
            stats.student_lse(config),
            stats.teacher_lse(config),
            of_teacher(stats.agreement > 0.0),
            one(stats.label_logit == stats.student_max),
            of_teacher(stats.teacher_label_logit == stats.teacher_max),
        ];
        RowMetrics::of(values.map(|value| value as f32))
    }
}
