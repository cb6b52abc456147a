//! The soft part of a row: its value, and the coefficients of its gradient.

use crate::{Config, RowStats};

/// The soft part of a row. Its gradient with respect to the logits over the temperature is
/// `student p - teacher q + first f1 + second f2`, with the terms of the divergence's shape. A sampled token has `[i = label]` in place of `q`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    /// In nats; may be `+inf`.
    pub value: f64,
    pub student: f64,
    pub teacher: f64,
    pub first: f64,
    pub second: f64,
    /// The gradient at the label, of a divergence that leaves it out. `student` and `teacher` are then the factors of the distributions of
    /// the other classes.
    pub label: f64,
    /// Multiplies the hard part.
    pub hard: f64,
    /// Multiplies the inverses of the normalisers, for the shape.
    pub inverse: f64,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            value: 0.0,
            student: 0.0,
            teacher: 0.0,
            first: 0.0,
            second: 0.0,
            label: 0.0,
            hard: 1.0,
            inverse: 1.0,
        }
    }
}

/// `ln(p / (1 - p))` of a probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LogOdds(f64);

impl LogOdds {
    /// Of a class with this logit, whose other classes have the sum `rest` of exponentials relative to their largest logit.
    fn of(logit: f32, largest: f32, rest: f32, temperature: f64) -> Self {
        if logit == f32::NEG_INFINITY {
            return Self(f64::NEG_INFINITY);
        }
        // Without other classes: +inf.
        Self((f64::from(logit) - f64::from(largest)) / temperature - f64::from(rest).ln())
    }

    pub fn p(self) -> f64 {
        1.0 / (1.0 + (-self.0).exp())
    }

    /// `1 - p`
    pub fn rest(self) -> f64 {
        1.0 / (1.0 + self.0.exp())
    }

    pub fn ln_p(self) -> f64 {
        -softplus(-self.0)
    }

    /// `ln(1 - p)`
    pub fn ln_rest(self) -> f64 {
        -softplus(self.0)
    }
}

/// `ln(1 + e^x)`
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The log-odds of the label, for divergences that leave it out.
pub(super) struct LabelOdds {
    pub student: LogOdds,
    pub teacher: LogOdds,
    /// At the temperature of the hard part.
    pub student_hard: LogOdds,
    pub teacher_hard: LogOdds,
}

impl LabelOdds {
    pub fn of(config: &Config, stats: &RowStats) -> Self {
        let student = |rest, temperature| {
            LogOdds::of(stats.label_logit, stats.rest_student_max, rest, temperature)
        };
        let teacher = |rest, temperature| {
            LogOdds::of(
                stats.teacher_label_logit,
                stats.rest_teacher_max,
                rest,
                temperature,
            )
        };
        let hard = config.label_temperature();
        Self {
            student: student(stats.rest_student_sum, config.student_temperature.into()),
            teacher: teacher(stats.rest_teacher_sum, config.teacher_temperature.into()),
            student_hard: student(stats.rest_hard_sum, hard),
            teacher_hard: teacher(stats.rest_teacher_hard_sum, hard),
        }
    }
}

/// `r = ln q_c - ln p_c` of a sampled token `c`, the label.
pub(super) struct SampledToken {
    /// Within the clamp.
    pub r: f64,
    /// False beyond the clamp, where the gradient is 0.
    inside: bool,
}

impl SampledToken {
    pub fn of(config: &Config, stats: &RowStats, clamp: f64) -> Self {
        let f = f64::from;
        let distance = f(stats.label_logit) - f(stats.student_max);
        let log_p = distance / f(config.student_temperature) - f(stats.student_sum).ln();
        let log_q = f(stats.teacher_label_logit);
        // Equal if both are `-inf`.
        let r = if log_q == log_p { 0.0 } else { log_q - log_p };
        Self {
            r: r.clamp(-clamp, clamp),
            inside: r.abs() <= clamp,
        }
    }

    /// The part with this value, whose gradient is `- by_r` times that of `ln p_c`.
    pub fn part(&self, value: f64, by_r: f64) -> Part {
        let by_r = if self.inside { by_r } else { 0.0 };
        Part {
            value,
            student: by_r,
            teacher: by_r,
            ..Part::default()
        }
    }
}

impl Part {
    /// An infinite value without a gradient.
    pub const NO_GRADIENT: Self = Self {
        value: f64::INFINITY,
        student: f64::NAN,
        teacher: f64::NAN,
        first: f64::NAN,
        second: f64::NAN,
        label: f64::NAN,
        hard: 1.0,
        inverse: 1.0,
    };
}

/// `weight * term`, 0 for a weight of 0 even if the term is infinite.
pub(super) fn share(weight: f64, term: f64) -> f64 {
    if weight == 0.0 { 0.0 } else { weight * term }
}

/// `KL(p, q)`; infinite if the teacher masks a class that the student does not.
pub(super) fn reverse_kl(stats: &RowStats) -> f64 {
    if stats.unseen_mass > 0.0 {
        return f64::INFINITY;
    }
    let (zs, zt) = (f64::from(stats.student_sum), f64::from(stats.teacher_sum));
    (f64::from(stats.reverse_difference) / zs - zs.ln() + zt.ln()).max(0.0)
}

/// `sum min(p, q)` and `sum p [p < q]`, the sums of the second sweep of divergences with the shape `Below`. The gradient of
/// `sum min(p, q)` is `f1 - (sum p [p < q]) p`.
pub(super) fn overlap(stats: &RowStats) -> (f64, f64) {
    let overlap = f64::from(stats.sweep_first).clamp(0.0, 1.0);
    (overlap, f64::from(stats.sweep_second))
}
