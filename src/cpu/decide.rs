//! Decide: TSSR, loss and gradient coefficients of a row from its statistics. Scalar, in f64.

use super::divergences;
use super::part::{LabelOdds, Part, share};
use super::selection::{select_tssr, tssr_by_kdr};
use crate::rule::ClassWeights;
use crate::{
    Config, Decision, NonFinite, RowResult, RowStats, Similarity, Standardization, TssrGradient,
    flags,
};

/// The values that `decide` uses for all rows of a batch.
pub(super) struct Rule {
    config: Config,
    pub tstr: f32,
    /// The KDR for all rows; `None` for each row's own.
    pub shared_kdr: Option<f32>,
    classes: usize,
    /// The factors of hard and soft part in the loss, without their shares.
    pub hard_loss: f64,
    pub soft_loss: f64,
    /// The factors of hard and soft part in the gradient, over the denominator of the reduction, without their shares.
    pub hard: f64,
    pub soft: f64,
    /// The factor of `lse h` in the gradient.
    z: f64,
    /// The factor in the gradient of any part's derivative with respect to the student's logits over their temperature.
    unit: f64,
    /// The parts that weights of classes multiply.
    weights: ClassWeights,
}

/// The loss of a row, and the coefficients of its gradient. `student`, `teacher` and `hard` are those of probabilities.
struct Terms {
    loss: f64,
    student: f64,
    teacher: f64,
    hard: f64,
    first: f64,
    second: f64,
    label: f64,
    uniform: f64,
    /// Multiplies the inverses of the normalisers, for the shape.
    inverse: f64,
    /// With the label left out: the gradient at it, and `student`, `teacher`, `hard` are those of the other classes' distributions.
    at_label: Option<f64>,
}

impl Terms {
    const NAN: Self = Self {
        loss: f64::NAN,
        student: f64::NAN,
        teacher: f64::NAN,
        hard: f64::NAN,
        first: f64::NAN,
        second: f64::NAN,
        label: f64::NAN,
        uniform: f64::NAN,
        inverse: 1.0,
        at_label: None,
    };

    /// Times the row's weight. A weight of 0 gives 0, even where the loss is infinite and has no gradient.
    fn weighted(self, weight: f64) -> Self {
        Self {
            loss: share(weight, self.loss),
            student: share(weight, self.student),
            teacher: share(weight, self.teacher),
            hard: share(weight, self.hard),
            first: share(weight, self.first),
            second: share(weight, self.second),
            label: share(weight, self.label),
            uniform: share(weight, self.uniform),
            inverse: self.inverse,
            at_label: self.at_label.map(|label| share(weight, label)),
        }
    }
}

impl Rule {
    /// `valid` rows have a label.
    pub fn of(
        config: &Config,
        tstr: f32,
        shared_kdr: Option<f32>,
        valid: u32,
        classes: usize,
    ) -> Self {
        let denominator = config.reduction.denominator(valid);
        let (hard_loss, hard) = config.hard_factors();
        let soft_weight = f64::from(config.soft_weight);
        let grad_loss = f64::from(config.grad_loss);
        Self {
            config: *config,
            tstr,
            shared_kdr,
            classes,
            hard_loss,
            soft_loss: soft_weight * config.temperature_factor(),
            hard: hard / denominator,
            soft: soft_weight * config.gradient_factor() / denominator,
            z: config.z_gradient_factor() / denominator,
            unit: grad_loss / f64::from(config.student_temperature) / denominator,
            weights: ClassWeights::default(),
        }
    }

    /// The same rule for classes with weights.
    pub fn with_class_weights(self, weights: ClassWeights) -> Self {
        Self { weights, ..self }
    }

    pub fn decide(&self, stats: &RowStats) -> Decision {
        let mut decision = Decision {
            label: stats.label,
            student_max: stats.student_max,
            teacher_max: stats.teacher_max,
            student_deviation: stats.student_deviation,
            teacher_deviation: stats.teacher_deviation,
            ..Decision::default()
        };
        decision.result.flags = stats.flags;
        if stats.flags & flags::IGNORED != 0 {
            return decision;
        }
        if stats.flags & flags::NON_FINITE != 0 && self.is_skipped(stats) {
            decision.result.flags |= flags::SKIPPED;
            return decision;
        }
        let nan = f32::NAN;
        let mut result = RowResult {
            loss: nan,
            kdr: nan,
            tssr: nan,
            flags: stats.flags,
        };
        if stats.flags & flags::NON_FINITE == 0 {
            result.kdr = stats.kdr;
            let kdr = self.shared_kdr.unwrap_or(stats.kdr);
            result.tssr = select_tssr(&self.config, self.tstr, kdr, stats);
        }
        let terms = if stats.flags & (flags::NON_FINITE | flags::INVALID_LABEL) == 0 {
            let terms = self.terms(stats, f64::from(result.tssr));
            if let Some(bound) = self.bound_of(terms.loss) {
                result.loss = bound * stats.weight;
                result.flags |= flags::CLAMPED;
                decision.result = result;
                return decision;
            }
            terms.weighted(f64::from(stats.weight))
        } else {
            Terms::NAN
        };
        result.loss = terms.loss as f32;
        if terms.student.is_nan() && !terms.loss.is_nan() {
            result.flags |= flags::NO_GRADIENT;
            if self.is_skipped(stats) {
                decision.result.flags = result.flags | flags::SKIPPED;
                return decision;
            }
        }
        let (mut zs, mut zt) = (f64::from(stats.student_sum), f64::from(stats.teacher_sum));
        let mut zh = f64::from(stats.hard_sum);
        if let Some(at_label) = terms.at_label {
            (zs, zt) = (stats.rest_student_sum.into(), stats.rest_teacher_sum.into());
            zh = stats.rest_hard_sum.into();
            decision.student_max = stats.rest_student_max;
            decision.teacher_max = stats.rest_teacher_max;
            decision.label_gradient = at_label as f32;
            decision.owns_label = 1;
        }
        // Without other classes than the label their coefficients are not used.
        let over = |term: f64, sum: f64| if sum == 0.0 { 0.0 } else { (term / sum) as f32 };
        decision.student_scale = over(terms.student, zs);
        decision.teacher_scale = over(terms.teacher, zt);
        if self.own_hard() {
            decision.hard_scale = over(terms.hard, zh);
        }
        decision.label_share = terms.label as f32;
        decision.uniform_share = terms.uniform as f32;
        decision.first_scale = terms.first as f32;
        decision.second_scale = terms.second as f32;
        decision.student_inverse = over(terms.inverse, zs);
        decision.teacher_inverse = over(terms.inverse, zt);
        decision.result = result;
        decision
    }

    /// The bound that replaces a loss out of range.
    pub fn bound_of(&self, loss: f64) -> Option<f32> {
        let [least, greatest] = self.config.loss_clamp?;
        match loss {
            loss if loss < f64::from(least) => Some(least),
            loss if loss > f64::from(greatest) => Some(greatest),
            _ => None,
        }
    }

    /// The number of classes that share the smoothed part of the label's distribution.
    fn smoothed_classes(&self, stats: &RowStats) -> f64 {
        match self.config.smooths_unmasked() {
            true => f64::from(stats.student_count),
            false => self.classes as f64,
        }
    }

    /// Returns true if a row without a finite result is left out. A label out of range stays visible.
    fn is_skipped(&self, stats: &RowStats) -> bool {
        self.config.non_finite == NonFinite::Skip && stats.flags & flags::INVALID_LABEL == 0
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The hard and the soft part of a finite row with a label, in nats.
    pub fn parts(&self, stats: &RowStats) -> (f64, f64) {
        let soft = self.soft(stats);
        (soft.hard * self.hard(stats), soft.value)
    }

    #[inline(always)]
    fn soft(&self, stats: &RowStats) -> Part {
        match self.weights.soft {
            true => divergences::weighted_part(stats),
            false => divergences::part(&self.config, stats),
        }
    }

    fn own_hard(&self) -> bool {
        self.config.has_own_hard_temperature()
    }

    /// Loss and coefficients of a finite row with a label. A share of 0 contributes 0 even if its term is infinite. The student's
    /// coefficient is NaN if the row has no gradient.
    #[inline(always)]
    fn terms(&self, stats: &RowStats, tssr: f64) -> Terms {
        let soft = self.soft(stats);
        let hard = soft.hard * self.hard(stats);
        let soft_loss = (1.0 - tssr) * self.soft_loss;
        let mut loss = share(tssr * self.hard_loss, hard) + share(soft_loss, soft.value);
        // The gradient of a part without weight is 0, even if the part has no gradient.
        let part = match soft_loss {
            0.0 => Part::default(),
            _ => soft,
        };
        // A row of standardised logits has temperatures of its own.
        let scale = self.config.standardization.scale(stats.student_deviation);
        let soft_weight = self.soft / scale;
        let weight = soft_weight * (1.0 - tssr);
        let mut hard_scale = self.hard * soft.hard;
        if !self.own_hard() {
            hard_scale /= scale;
        }
        let (label_weight, mass) = self.label_weights(stats);
        let hard_weight = hard_scale * mass;
        let e = f64::from(self.config.label_smoothing);
        let mut terms = Terms {
            loss,
            // If hard and soft part have the same weight, this is exactly that weight.
            student: hard_weight + (1.0 - tssr) * (soft_weight * part.student - hard_weight),
            teacher: weight * part.teacher,
            hard: 0.0,
            first: weight * part.first,
            second: weight * part.second,
            label: hard_scale * label_weight * tssr * (1.0 - e),
            uniform: hard_scale * tssr * e / self.smoothed_classes(stats),
            inverse: part.inverse,
            at_label: None,
        };
        if self.config.divergence.is_sampled() {
            terms.label += terms.teacher;
            terms.teacher = 0.0;
        }
        let mut z = 0.0;
        if self.config.z_loss > 0.0 {
            let lse = self.hard_lse(stats);
            loss += f64::from(self.config.z_loss) * lse * lse;
            z = self.z * lse;
        }
        terms.loss = loss;
        if self.own_hard() {
            terms.student = weight * part.student;
            terms.hard = hard_weight * tssr + z;
        } else {
            terms.student += z;
        }
        if self.config.divergence.rule().label_apart {
            self.leave_label_out(stats, &part, hard_weight * tssr, z, weight, &mut terms);
        }
        if self.config.tssr_gradient == TssrGradient::Attached {
            self.attach(stats, hard, soft.value, &mut terms);
        }
        if self.config.standardization != Standardization::None {
            self.through_deviation(stats, &mut terms);
        }
        match terms.student.is_nan() {
            true => Terms {
                loss: terms.loss,
                ..Terms::NAN
            },
            false => terms,
        }
    }

    /// Replaces the coefficients by those of the distributions of the classes beside the label, and sets the gradient at the label.
    fn leave_label_out(
        &self,
        stats: &RowStats,
        part: &Part,
        hard: f64,
        z: f64,
        soft: f64,
        terms: &mut Terms,
    ) {
        let odds = LabelOdds::of(&self.config, stats);
        let mut label = odds.student;
        terms.student = soft * part.student;
        terms.teacher = soft * part.teacher;
        if self.own_hard() {
            label = odds.student_hard;
            terms.hard = (hard + z) * label.rest();
        } else {
            terms.student += (hard + z) * label.rest();
        }
        let e = f64::from(self.config.label_smoothing);
        let is_smoothed = !self.config.smooths_unmasked() || stats.label_logit > f32::NEG_INFINITY;
        let own = f64::from(u8::from(is_smoothed)) / self.smoothed_classes(stats);
        let smoothed = e * (1.0 - own);
        terms.at_label = Some(hard * (smoothed - label.rest()) + z * label.p() + soft * part.label);
    }

    /// The sum of the exponentials of the student's logits at the hard part's temperature, relative to their maximum.
    #[inline(always)]
    fn hard_log_sum(&self, stats: &RowStats) -> f64 {
        let sum = match self.own_hard() {
            true => stats.hard_sum,
            false => stats.student_sum,
        };
        f64::from(sum).ln()
    }

    /// The log-sum-exp of the student's logits at the hard part's temperature.
    fn hard_lse(&self, stats: &RowStats) -> f64 {
        f64::from(stats.student_max) / self.label_temperature(stats) + self.hard_log_sum(stats)
    }

    /// The temperature of the hard part in a row.
    #[inline(always)]
    fn label_temperature(&self, stats: &RowStats) -> f64 {
        match self.own_hard() {
            true => self.config.label_temperature(),
            false => stats.student_temperature(&self.config),
        }
    }

    /// The cross-entropy with the label.
    #[inline(always)]
    fn hard(&self, stats: &RowStats) -> f64 {
        let f = f64::from;
        let temperature = self.label_temperature(stats);
        let log_sum = self.hard_log_sum(stats);
        let inverse_temperature = 1.0 / temperature;
        let hard = match stats.flags & (flags::SOFT_LABEL | flags::SOFT_LABEL_MASKED) {
            0 => log_sum - (f(stats.label_logit) - f(stats.student_max)) * inverse_temperature,
            flags::SOFT_LABEL => {
                let to_hard = f(self.config.student_temperature) * inverse_temperature;
                f(stats.soft_label_sum) * log_sum - f(stats.soft_label_moment) * to_hard
            }
            _ => return f64::INFINITY,
        };
        let e = f(self.config.label_smoothing);
        if self.weights.label {
            return self.weighted_hard(stats, hard, log_sum);
        }
        if e == 0.0 {
            return hard;
        }
        if stats.flags & flags::STUDENT_MASKED != 0 && !self.config.smooths_unmasked() {
            return f64::INFINITY;
        }
        let mut mean_offset = f(stats.student_offset) / self.smoothed_classes(stats);
        if self.own_hard() {
            mean_offset *= stats.student_temperature(&self.config) * inverse_temperature;
        }
        (1.0 - e) * hard + e * (log_sum - mean_offset)
    }

    /// `- sum v_i EK_i ln h_i` with the weights of the classes, given its term of the label without its share.
    fn weighted_hard(&self, stats: &RowStats, label: f64, log_sum: f64) -> f64 {
        let f = f64::from;
        let e = f(self.config.label_smoothing);
        let hard = share((1.0 - e) * f(stats.class_weight), label);
        if e == 0.0 {
            return hard;
        }
        if stats.masked_weight > 0.0 {
            return f64::INFINITY;
        }
        let mut offset = f(stats.weighted_offset);
        if self.own_hard() {
            offset *= f(self.config.student_temperature) / self.config.label_temperature();
        }
        hard + e / self.classes as f64 * (f(stats.weight_sum) * log_sum - offset)
    }

    /// The weight of the label, and `sum v_i EK_i`. Both are 1 without weights and soft labels.
    #[inline(always)]
    fn label_weights(&self, stats: &RowStats) -> (f64, f64) {
        let f = f64::from;
        let e = f(self.config.label_smoothing);
        if stats.has_soft_label() {
            return (1.0, (1.0 - e) * f(stats.soft_label_sum) + e);
        }
        if !self.weights.label {
            return (1.0, 1.0);
        }
        let all = f(stats.weight_sum) + f(stats.masked_weight);
        let label = f(stats.class_weight);
        (label, (1.0 - e) * label + e / self.classes as f64 * all)
    }

    /// Adds the gradient through the standard deviation of the student's logits. A masked class takes no part.
    fn through_deviation(&self, stats: &RowStats, terms: &mut Terms) {
        let f = f64::from;
        let (deviation, count) = (f(stats.student_deviation), f(stats.student_count));
        if deviation == 0.0 {
            return;
        }
        // Of `s - ms`.
        let mean = f(stats.student_offset) / count;
        let (zs, zt) = (f(stats.student_sum), f(stats.teacher_sum));
        // The sum of the gradient so far times `s - mean s`. Terms without p, q and the label sum to 0.
        let of_teacher = f(stats.soft_moment) - mean * (zt - f(stats.masked_mass));
        let mut slope = terms.student * (f(stats.student_moment) / zs - mean);
        slope -= terms.teacher * of_teacher / zt;
        if !self.own_hard() && stats.label_logit != f32::NEG_INFINITY {
            let temperature = stats.student_temperature(&self.config);
            let label = (f(stats.label_logit) - f(stats.student_max)) / temperature;
            slope -= terms.label * (label - mean);
        }
        let base = f(self.config.student_temperature);
        let scale = self.config.standardization.scale(stats.student_deviation);
        let factor = slope * base * base * (scale / deviation) / (count - 1.0);
        terms.first = -factor;
        terms.second = factor * mean;
    }

    /// Adds the gradient through TSSR and KDR.
    fn attach(&self, stats: &RowStats, hard: f64, soft: f64, terms: &mut Terms) {
        let f = f64::from;
        let slope = tssr_by_kdr(self.config.selection, self.tstr, stats.kdr);
        if slope == 0.0 {
            return;
        }
        let kdr = f(stats.kdr);
        // An infinite part has no slope through its share.
        let part = |weight: f64, term: f64| if term.is_finite() { weight * term } else { 0.0 };
        let by_tssr = part(self.hard_loss, hard) - part(self.soft_loss, soft);
        let j = by_tssr * slope * self.unit;
        match self.config.similarity {
            Similarity::Cosine => {
                let (zs, zt) = (f(stats.student_sum), f(stats.teacher_sum));
                let (pp, qq) = (
                    f(stats.student_square) / (zs * zs),
                    f(stats.teacher_square) / (zt * zt),
                );
                terms.first += j / (pp * qq).sqrt();
                terms.second -= j * kdr / pp;
            }
            Similarity::Bhattacharyya => {
                terms.first += 0.5 * j;
                terms.student -= 0.5 * j * kdr;
            }
            Similarity::ExpNegKl => {
                terms.student -= j * kdr;
                terms.teacher -= j * kdr;
            }
            // `validate` refuses them.
            Similarity::JensenShannon | Similarity::Overlap => {}
        }
    }
}
