//! A row's loss, mixed from its parts, and its gradient (METHOD, sections 5 and 6).

use super::distributions::{
    Pair, log_probabilities, log_softmax_row, logits_of, lse, softmax_row, weighted,
};
use super::{divergences, similarity};
use crate::{Batch, Config, Divergence, HardTemperature, Selection, TssrGradient};

/// TSSR from TSTR and KDR (METHOD, section 5).
pub fn select_tssr(selection: Selection, tstr: f64, kdr: f64) -> f64 {
    match selection {
        Selection::Max => tstr.max(kdr),
        Selection::Min => tstr.min(kdr),
        Selection::Mean => (tstr + kdr) / 2.0,
        Selection::Product => tstr * kdr,
        Selection::Tstr => tstr,
        Selection::Kdr => kdr,
        Selection::Fixed(w) => f64::from(w),
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
        Selection::Tstr | Selection::Fixed(_) => 0.0,
    }
}

/// A finite row whose label is a class.
pub(super) struct Row {
    log_p: Vec<f64>,
    log_q: Vec<f64>,
    /// `ln h`, the student's distribution at the temperature of the hard part.
    log_h: Vec<f64>,
    /// The log-sum-exp at the temperature of the hard part.
    lse: f64,
    /// EK; sums to 1 but for soft labels.
    truth: Vec<f64>,
    label: usize,
    /// Multiplies the hard part.
    hard_factor: f64,
}

impl Row {
    pub(super) fn new(config: &Config, batch: &Batch<'_>, row: usize) -> Self {
        let [log_p, log_q] = log_probabilities(config, batch, row);
        let [student, teacher] = logits_of(batch, row);
        let (e, classes) = (f64::from(config.label_smoothing), student.len());
        let given = |i: usize| match batch.soft_label(row) {
            Some(soft_label) => f64::from(soft_label.get(i)),
            None => f64::from(i as i64 == i64::from(batch.labels[row])),
        };
        let truth = |i| (1.0 - e) * given(i) + e / classes as f64;
        let label = batch.labels[row] as usize;
        let hard_factor = match config.divergence {
            Divergence::Nkd { .. } => {
                1.0 + softmax_row(&teacher, config.label_temperature())[label]
            }
            _ => 1.0,
        };
        Self {
            label,
            hard_factor,
            log_p,
            log_q,
            log_h: log_softmax_row(&student, config.label_temperature()),
            lse: lse(&student, config.label_temperature()),
            truth: (0..classes).map(truth).collect(),
        }
    }

    pub(super) fn log_p(&self) -> &[f64] {
        &self.log_p
    }

    fn pair(&self) -> Pair<'_> {
        Pair {
            log_p: &self.log_p,
            log_q: &self.log_q,
            label: self.label,
        }
    }

    /// `- sum EK ln h`. An `EK` of 0 contributes 0 even if `h` is 0.
    pub(super) fn hard(&self) -> f64 {
        let terms = self.log_h.iter().zip(&self.truth);
        let sum: f64 = terms.map(|(log_h, truth)| weighted(*truth, -log_h)).sum();
        self.hard_factor * sum
    }

    pub(super) fn soft(&self, config: &Config) -> f64 {
        divergences::value(config.divergence, self.pair())
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
        let student_temperature = f64::from(config.student_temperature);
        let mut gradient = vec![0.0; self.log_p.len()];
        let mut add = |factor: f64, terms: Vec<f64>| {
            let each = gradient.iter_mut().zip(terms);
            each.for_each(|(sum, term)| *sum += factor * term);
        };

        let share = (1.0 - tssr) * soft_weight;
        if share != 0.0 {
            let soft = divergences::gradient(config.divergence, self.pair());
            if soft.iter().any(|x| !x.is_finite()) {
                return None;
            }
            add(share / student_temperature, soft);
        }

        let share = tssr * hard_weight * self.hard_factor;
        let temperature = config.label_temperature();
        let h: Vec<f64> = self.log_h.iter().map(|log_h| log_h.exp()).collect();
        let mass: f64 = self.truth.iter().sum();
        let hard = h.iter().zip(&self.truth);
        let hard = hard.map(|(h, truth)| mass * h - truth);
        add(share / temperature, hard.collect());
        if config.z_loss != 0.0 {
            add(2.0 * f64::from(config.z_loss) * self.lse / temperature, h);
        }

        if slope != 0.0 {
            // An infinite part has no slope through its share.
            let finite = |part: f64| if part.is_finite() { part } else { 0.0 };
            let apart = hard_weight * finite(self.hard()) - soft_weight * finite(self.soft(config));
            let kdr = similarity::gradient(config.similarity, self.pair());
            add(slope * apart / student_temperature, kdr);
        }
        Some(gradient)
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
