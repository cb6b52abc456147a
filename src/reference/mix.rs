//! A row's loss, mixed from its parts, and its gradient (METHOD, sections 5 and 6).

use super::distributions::{
    Pair, beside, log_rest, log_softmax_row, logits_of, lse, row_temperature, softmax_row,
    through_deviation, weighted,
};
use super::list::List;
use super::log_probabilities::log_probabilities;
use super::{divergences, similarity};
use crate::{
    Batch, ClassWeighting, Config, Divergence, HardTemperature, Selection, SmoothedClasses,
    Standardization, TssrGradient,
};

/// TSSR from TSTR and KDR (METHOD, section 5). NaN for `Margin`, which does not depend on them.
pub fn select_tssr(selection: Selection, tstr: f64, kdr: f64) -> f64 {
    match selection {
        Selection::Max => tstr.max(kdr),
        Selection::Min => tstr.min(kdr),
        Selection::Mean => (tstr + kdr) / 2.0,
        Selection::Product => tstr * kdr,
        Selection::Tstr => tstr,
        Selection::Kdr => kdr,
        Selection::Fixed(w) => f64::from(w),
        Selection::Margin(_) => f64::NAN,
    }
}

/// TSSR of `Selection::Margin` (METHOD, section 5) from the teacher's logits; NaN if the label is no class.
///
/// Where another class is larger than the label, the target `a [i = label] + (1 - a) q_i` gives the label a margin of the threshold over
/// that class. Else the target's label is the teacher's plus the threshold, at most 1.
pub fn margin_share(threshold: f64, teacher: &[f64], temperature: f64, label: i32) -> f64 {
    let Some(label) = usize::try_from(label).ok().filter(|i| *i < teacher.len()) else {
        return f64::NAN;
    };
    let log_q = log_softmax_row(teacher, temperature);
    let larger = (0..teacher.len()).filter(|i| teacher[*i] > teacher[label]);
    let largest = larger.map(|i| log_q[i]).fold(f64::NEG_INFINITY, f64::max);
    if largest > f64::NEG_INFINITY {
        let distance = largest.exp() - log_q[label].exp();
        return (distance + threshold) / (1.0 + distance);
    }
    let rest = log_rest(&log_q, label).exp();
    match rest < threshold {
        true => 1.0,
        false => weighted(threshold, 1.0 / rest),
    }
}

/// The derivative of TSSR with respect to KDR; 0 unless the configuration attaches TSSR. If TSTR equals KDR, TSTR is selected.
pub(super) fn tssr_slope(config: &Config, tstr: f64, kdr: f64) -> f64 {
    if config.tssr_gradient == TssrGradient::Detached {
        return 0.0;
    }
    match config.selection {
        Selection::Max => f64::from(kdr > tstr),
        Selection::Min => f64::from(kdr < tstr),
        Selection::Mean => 0.5,
        Selection::Product => tstr,
        Selection::Kdr => 1.0,
        Selection::Tstr | Selection::Fixed(_) | Selection::Margin(_) => 0.0,
    }
}

/// A finite row whose label is a class.
pub(super) struct Row {
    /// The student's logits.
    logits: Vec<f64>,
    /// The temperatures of the student and of the hard part.
    temperature: f64,
    label_temperature: f64,
    log_p: Vec<f64>,
    log_q: Vec<f64>,
    beside: [Vec<f64>; 2],
    /// `ln h`, the student's distribution at the temperature of the hard part.
    log_h: Vec<f64>,
    /// The log-sum-exp at the temperature of the hard part.
    lse: f64,
    /// The list that `log_p` and `log_q` belong to, if the teacher is one.
    list: Option<List>,
    /// EK, each class times its weight
    truth: Vec<f64>,
    /// EK is the distribution of one label
    sums_to_one: bool,
    label: usize,
    /// Multiplies the hard part.
    hard_factor: f64,
    /// Multiplies the soft part.
    soft_factor: f64,
    /// The weights of the classes in the soft part, if there are any.
    soft_weights: Option<Vec<f64>>,
}

impl Row {
    pub(super) fn new(config: &Config, batch: &Batch<'_>, row: usize) -> Self {
        let [log_p, log_q] = log_probabilities(config, batch, row);
        let [student, teacher] = logits_of(config, batch, row);
        let (e, classes) = (f64::from(config.label_smoothing), student.len());
        let soft_label = batch.soft_label(row);
        let given = |i: usize| match &soft_label {
            Some(soft_label) => f64::from(soft_label.get(i)),
            None => f64::from(i as i64 == i64::from(batch.labels[row])),
        };
        let masked = |i: usize| student[i] == f64::NEG_INFINITY;
        let smoothed = |i: usize| match config.smoothed_classes {
            SmoothedClasses::All => 1.0 / classes as f64,
            SmoothedClasses::Unmasked if masked(i) => 0.0,
            SmoothedClasses::Unmasked => 1.0 / (0..classes).filter(|i| !masked(*i)).count() as f64,
        };
        let weights = batch.class_weights.map(|weights| {
            let weights = weights.iter().copied().map(f64::from);
            weights.collect::<Vec<_>>()
        });
        let hard_weights = weights
            .clone()
            .filter(|_| config.class_weighting != ClassWeighting::Soft);
        let weight = |i: usize| hard_weights.as_ref().map_or(1.0, |weights| weights[i]);
        let truth = |i| weighted((1.0 - e) * given(i) + e * smoothed(i), weight(i));
        let label = batch.labels[row] as usize;
        let temperature = row_temperature(config, config.student_temperature, &student);
        let label_temperature = match config.hard_temperature {
            HardTemperature::Student => temperature,
            HardTemperature::Own(own) => f64::from(own),
        };
        let teacher_temperature = row_temperature(config, config.teacher_temperature, &teacher);
        let beside = beside(
            config.divergence,
            [&student, &teacher],
            [temperature, teacher_temperature],
            label,
        );
        let (mut hard_factor, mut soft_factor) = (1.0, 1.0);
        match config.divergence {
            Divergence::Nkd { .. } => {
                hard_factor += softmax_row(&teacher, label_temperature)[label]
            }
            Divergence::Wsld => {
                let cross_entropies = [&student, &teacher].map(|logits| {
                    label_cross_entropy(&log_softmax_row(logits, label_temperature), label)
                });
                soft_factor = soft_label_weight(cross_entropies);
            }
            _ => {}
        }
        Self {
            label,
            hard_factor,
            soft_factor,
            sums_to_one: hard_weights.is_none() && batch.soft_labels.is_none(),
            log_p,
            log_q,
            list: List::of(config, batch, row),
            beside,
            log_h: log_softmax_row(&student, label_temperature),
            lse: lse(&student, label_temperature),
            truth: (0..classes).map(truth).collect(),
            logits: student,
            temperature,
            label_temperature,
            soft_weights: weights.filter(|_| config.class_weighting != ClassWeighting::Hard),
        }
    }

    pub(super) fn log_p(&self) -> &[f64] {
        &self.log_p
    }

    fn pair(&self) -> Pair<'_> {
        Pair::of(&self.log_p, &self.log_q, self.label).with(&self.beside)
    }

    /// `- sum EK ln h`. An `EK` of 0 contributes 0 even if `h` is 0.
    pub(super) fn hard(&self) -> f64 {
        let terms = self.log_h.iter().zip(&self.truth);
        let sum: f64 = terms.map(|(log_h, truth)| weighted(*truth, -log_h)).sum();
        self.hard_factor * sum
    }

    /// The divergence; with weights of classes `- sum v q ln p`.
    pub(super) fn soft(&self, config: &Config) -> f64 {
        if let Some(weights) = &self.soft_weights {
            let terms = self.log_p.iter().zip(&self.log_q).zip(weights);
            let term =
                |((log_p, log_q), v): ((&f64, &f64), &f64)| weighted(v * log_q.exp(), -log_p);
            return terms.map(term).sum();
        }
        let value = divergences::value(config.divergence, self.pair());
        weighted(self.soft_factor, value)
    }

    /// The loss with temperature scaling, before reduction. A part with a factor of 0 contributes 0 even if it is infinite.
    pub(super) fn loss(&self, config: &Config, tssr: f64) -> f64 {
        let [hard, soft] = weights(config);
        weighted(tssr * hard, self.hard())
            + weighted((1.0 - tssr) * soft, self.soft(config))
            + weighted(f64::from(config.z_loss), self.lse * self.lse)
    }

    /// The derivative of the loss with respect to the student's logits. `slope` is the derivative of TSSR with respect to KDR. `None`
    /// if the divergence is infinite and has no derivative.
    pub(super) fn gradient(&self, config: &Config, tssr: f64, slope: f64) -> Option<Vec<f64>> {
        let [hard_weight, soft_weight] = weights(config);
        let student_temperature = self.temperature;
        let mut gradient = vec![0.0; self.log_h.len()];
        let of_classes = |terms: Vec<f64>| match &self.list {
            Some(list) => list.spread(&terms),
            None => terms,
        };
        let add = |gradient: &mut Vec<f64>, factor: f64, terms: Vec<f64>| {
            let each = gradient.iter_mut().zip(terms);
            each.for_each(|(sum, term)| *sum += factor * term);
        };

        let share = (1.0 - tssr) * soft_weight;
        if share != 0.0 {
            let soft = match &self.soft_weights {
                Some(weights) => {
                    let terms = self.log_q.iter().zip(weights);
                    let terms: Vec<f64> = terms.map(|(log_q, v)| -v * log_q.exp()).collect();
                    self.pair().through_softmax(&terms)
                }
                None => divergences::gradient(config.divergence, self.pair()),
            };
            if soft.iter().any(|x| !x.is_finite()) {
                return None;
            }
            add(
                &mut gradient,
                share * self.soft_factor / student_temperature,
                of_classes(soft),
            );
        }

        let share = tssr * hard_weight * self.hard_factor;
        let temperature = self.label_temperature;
        let standardized = config.standardization != Standardization::None;
        let own = config.hard_temperature != HardTemperature::Student;
        // A hard part with a temperature of its own sees the logits.
        if standardized && own {
            gradient = through_deviation(&self.logits, &gradient);
        }
        let h: Vec<f64> = self.log_h.iter().map(|log_h| log_h.exp()).collect();
        // EK of a label without weights of classes sums to 1.
        let mass = match self.sums_to_one {
            true => 1.0,
            false => self.truth.iter().sum(),
        };
        let hard = h.iter().zip(&self.truth);
        let hard = hard.map(|(h, truth)| mass * h - truth);
        add(&mut gradient, share / temperature, hard.collect());
        if standardized && !own {
            gradient = through_deviation(&self.logits, &gradient);
        }
        if config.z_loss != 0.0 {
            let factor = 2.0 * f64::from(config.z_loss) * self.lse / temperature;
            add(&mut gradient, factor, h);
        }

        if slope != 0.0 {
            // An infinite part has no slope through its share.
            let finite = |part: f64| if part.is_finite() { part } else { 0.0 };
            let apart = hard_weight * finite(self.hard()) - soft_weight * finite(self.soft(config));
            let kdr = similarity::gradient(config.similarity, self.pair());
            add(
                &mut gradient,
                slope * apart / student_temperature,
                of_classes(kdr),
            );
        }
        Some(gradient)
    }
}

/// `- ln p` of the label. A probability near 1 is the rest's complement, which keeps the digits of a small result.
fn label_cross_entropy(log: &[f64], label: usize) -> f64 {
    match log[label] {
        of_label if of_label < -1.0 => -of_label,
        _ => -(-log_rest(log, label).exp()).ln_1p(),
    }
}

/// The weight of a row's soft part in `Wsld`, from the cross-entropies with the label of student and teacher.
fn soft_label_weight([student, teacher]: [f64; 2]) -> f64 {
    match student.is_infinite() {
        true => 1.0,
        false => -(-student / (teacher + 1e-7)).exp_m1(),
    }
}

/// The factors of the hard and of the soft part, besides their shares.
fn weights(config: &Config) -> [f64; 2] {
    let factor = config.temperature_factor();
    let hard = match config.hard_temperature {
        HardTemperature::Student => factor,
        HardTemperature::Own(_) => 1.0,
    };
    [
        f64::from(config.hard_weight) * hard,
        f64::from(config.soft_weight) * factor,
    ]
}
