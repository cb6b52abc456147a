//! Decide: TSSR, loss and gradient coefficients of a row from its statistics. Scalar, in f64.

use crate::{Config, Decision, RowResult, RowStats, Selection, flags};

pub(super) fn select_tssr(selection: Selection, tstr: f32, kdr: f32) -> f32 {
    match selection {
        Selection::Max => tstr.max(kdr),
        Selection::Min => tstr.min(kdr),
        Selection::Mean => 0.5 * (tstr + kdr),
        Selection::Product => tstr * kdr,
        Selection::Tstr => tstr,
        Selection::Kdr => kdr,
        Selection::Fixed(w) => w,
    }
}

/// The values that `decide` uses for all rows of a batch.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub config: Config,
    pub tstr: f32,
    /// The KDR for all rows; `None` for each row's own.
    pub shared_kdr: Option<f32>,
    /// The factor of `p - y` in the gradient, divided by the denominator of the reduction.
    pub gradient_weight: f64,
    pub classes: usize,
}

impl Rule {
    pub fn decide(&self, stats: &RowStats) -> Decision {
        let mut decision = Decision {
            label: stats.label,
            student_max: stats.student_max,
            teacher_max: stats.teacher_max,
            ..Decision::default()
        };
        decision.result.flags = stats.flags;
        if stats.flags & flags::IGNORED != 0 {
            return decision;
        }
        let nan = f32::NAN;
        let (mut loss, mut gradient_unit) = (0.0, 1.0);
        let mut result = RowResult {
            loss: nan,
            kdr: nan,
            tssr: nan,
            flags: stats.flags,
        };
        if stats.flags & flags::NON_FINITE == 0 {
            result.kdr = stats.kdr;
            let kdr = self.shared_kdr.unwrap_or(stats.kdr);
            result.tssr = select_tssr(self.config.selection, self.tstr, kdr);
            loss = self.loss(stats, f64::from(result.tssr));
        }
        if stats.flags & (flags::NON_FINITE | flags::INVALID_LABEL) != 0 {
            loss = f64::NAN;
            gradient_unit = f64::NAN;
        }
        let factor = self.config.temperature_factor();
        result.loss = (loss * factor) as f32;

        let tssr = f64::from(result.tssr);
        let e = f64::from(self.config.label_smoothing);
        let w = gradient_unit * self.gradient_weight;
        decision.student_scale = (w / f64::from(stats.student_sum)) as f32;
        decision.teacher_scale = (w * (1.0 - tssr) / f64::from(stats.teacher_sum)) as f32;
        decision.label_share = (w * tssr * (1.0 - e)) as f32;
        decision.uniform_share = (w * tssr * e / self.classes as f64) as f32;
        decision.result = result;
        decision
    }

    /// The cross-entropy of the weighted target, in which a share of 0 contributes 0 even if its term is infinite.
    fn loss(&self, stats: &RowStats, tssr: f64) -> f64 {
        let f = f64::from;
        let inverse_temperature = 1.0 / f(self.config.student_temperature);
        let log_zs = f(stats.student_sum).ln();
        let mut hard = log_zs - (f(stats.label_logit) - f(stats.student_max)) * inverse_temperature;
        let e = f(self.config.label_smoothing);
        if e > 0.0 {
            hard = if stats.flags & flags::STUDENT_MASKED != 0 {
                f64::INFINITY
            } else {
                let mean_offset = f(stats.student_offset) / self.classes as f64;
                (1.0 - e) * hard + e * (log_zs - mean_offset)
            };
        }
        let soft = if stats.masked_mass > 0.0 {
            f64::INFINITY
        } else {
            log_zs + (f(stats.difference) - f(stats.moment)) / f(stats.teacher_sum)
        };
        let share = |weight: f64, term: f64| if weight == 0.0 { 0.0 } else { weight * term };
        share(tssr, hard) + share(1.0 - tssr, soft)
    }
}
