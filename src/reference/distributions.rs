//! Rows of logits and their distributions in f64.

use crate::{Batch, Config, Divergence, Logits, Standardization};

/// `ln softmax`; NaN for a row without a finite result. Subtracts the maximum first: a common offset of 1e30 would take all digits of f64.
pub(super) fn log_softmax_row(x: &[f64], temperature: f64) -> Vec<f64> {
    let max = max(x);
    let z: Vec<f64> = x.iter().map(|x| (x - max) / temperature).collect();
    let log_sum = z.iter().map(|z| z.exp()).sum::<f64>().ln();
    z.into_iter().map(|z| z - log_sum).collect()
}

pub(super) fn softmax_row(x: &[f64], temperature: f64) -> Vec<f64> {
    log_softmax_row(x, temperature)
        .into_iter()
        .map(f64::exp)
        .collect()
}

/// The largest logit of a row; NaN if it is not finite or any logit is NaN.
fn max(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if x.iter().any(|x| x.is_nan()) || !max.is_finite() {
        return f64::NAN;
    }
    max
}

/// `ln sum e^(x / temperature)`
pub(super) fn lse(x: &[f64], temperature: f64) -> f64 {
    let max = max(x);
    let sum: f64 = x.iter().map(|x| ((x - max) / temperature).exp()).sum();
    max / temperature + sum.ln()
}

/// `n` logits of a row in f64; classes that the row lacks count as `-inf`.
pub(super) fn row_values(logits: &Logits<'_>, row: usize, n: usize) -> Vec<f64> {
    let value = |i| {
        if i < logits.classes {
            f64::from(logits.values.get(row * logits.row_stride + i))
        } else {
            f64::NEG_INFINITY
        }
    };
    (0..n).map(value).collect()
}

/// `x ln(x / y)` from the logarithms of both; 0 if `x` is 0.
pub(super) fn x_ln_ratio(ln_x: f64, ln_y: f64) -> f64 {
    let x = ln_x.exp();
    if x == 0.0 { 0.0 } else { x * (ln_x - ln_y) }
}

/// `factor * value`; 0 if the factor is 0, even if the value is infinite.
pub(super) fn weighted(factor: f64, value: f64) -> f64 {
    if factor == 0.0 { 0.0 } else { factor * value }
}

/// `ln(share e^a + (1 - share) e^b)`; `-inf` if both are.
pub(super) fn log_mixture(share: f64, a: f64, b: f64) -> f64 {
    let (a, b) = (share.ln() + a, (-share).ln_1p() + b);
    let (low, high) = (a.min(b), a.max(b));
    if low == f64::NEG_INFINITY {
        return high;
    }
    high + (low - high).exp().ln_1p()
}

/// The logarithms of the probabilities of student, `p`, and teacher, `q`.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub log_p: &'a [f64],
    pub log_q: &'a [f64],
    /// The row's label, for divergences that treat it apart.
    pub label: usize,
    /// The logarithms of the distributions of the classes beside the label; empty for other divergences.
    pub beside: [&'a [f64]; 2],
}

/// The logarithm of the probability of all classes but one.
pub(super) fn log_rest(log: &[f64], label: usize) -> f64 {
    let others = log.iter().enumerate().filter(|(i, _)| *i != label);
    let max = others
        .clone()
        .fold(f64::NEG_INFINITY, |max, (_, x)| max.max(*x));
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + others.map(|(_, x)| (x - max).exp()).sum::<f64>().ln()
}

/// The logarithms of the distributions of student and teacher of all classes but the label, for divergences that treat it apart; `-inf`
/// everywhere if those classes have no probability. They come from the logits: where the label's is 1e30 larger, the logarithms of the
/// probabilities have no digits of the others.
pub(super) fn beside(
    divergence: Divergence,
    logits: [&[f64]; 2],
    temperatures: [f64; 2],
    label: usize,
) -> [Vec<f64>; 2] {
    if !divergence.rule().label_apart {
        return Default::default();
    }
    [0, 1].map(|side| {
        let mut others = logits[side].to_vec();
        others[label] = f64::NEG_INFINITY;
        match others.iter().all(|x| *x == f64::NEG_INFINITY) {
            true => others,
            false => log_softmax_row(&others, temperatures[side]),
        }
    })
}

impl<'a> Pair<'a> {
    pub(super) fn of(log_p: &'a [f64], log_q: &'a [f64], label: usize) -> Self {
        Self {
            log_p,
            log_q,
            label,
            beside: [&[]; 2],
        }
    }

    /// The same pair with the distributions that [`beside`] returned.
    pub(super) fn with(self, [p, q]: &'a [Vec<f64>; 2]) -> Self {
        Self {
            beside: [p, q],
            ..self
        }
    }

    /// The pair of the distributions of the classes beside the label.
    pub(super) fn beside(self) -> Self {
        let [p, q] = self.beside;
        Self::of(p, q, self.label)
    }

    /// Returns true if both have a class.
    pub(super) fn both_live(self) -> bool {
        let live = |log: &[f64]| log.iter().any(|x| *x > f64::NEG_INFINITY);
        live(self.log_p) && live(self.log_q)
    }

    /// `f(ln p, ln q)` of every class.
    pub(super) fn map(self, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let pairs = self.log_p.iter().zip(self.log_q);
        pairs.map(|(p, q)| f(*p, *q)).collect()
    }

    /// The sum of `f(ln p, ln q)` over the classes.
    pub(super) fn sum(self, f: impl Fn(f64, f64) -> f64) -> f64 {
        self.map(f).into_iter().sum()
    }

    /// `ln q_c - ln p_c` of the label `c`; 0 if both are `-inf`.
    pub(super) fn log_ratio(self) -> f64 {
        let (log_p, log_q) = (self.log_p[self.label], self.log_q[self.label]);
        if log_p == log_q { 0.0 } else { log_q - log_p }
    }

    /// `- factor` times the gradient of `ln p_c` with respect to `s`: `factor (p_i - [i = c])`.
    pub(super) fn minus_gradient_of_log_p(self, factor: f64) -> Vec<f64> {
        let one = |i: usize| f64::from(u8::from(i == self.label));
        let each = self.log_p.iter().enumerate();
        each.map(|(i, log_p)| factor * (log_p.exp() - one(i)))
            .collect()
    }

    /// The gradient with respect to `s`, with `p = softmax(s)`, of a function of `p` whose derivative with respect to `p_i` is `F'_i`:
    /// `p_i (F'_i - sum p_j F'_j)`. `terms` are the products `p_i F'_i`.
    pub(super) fn through_softmax(self, terms: &[f64]) -> Vec<f64> {
        let sum: f64 = terms.iter().sum();
        let each = terms.iter().zip(self.log_p);
        each.map(|(term, log_p)| term - log_p.exp() * sum).collect()
    }
}

/// The logits of both, with the student's number of classes. With joined masks, a class that either masks is masked in both.
pub(super) fn logits_of(config: &Config, batch: &Batch<'_>, row: usize) -> [Vec<f64>; 2] {
    let classes = batch.classes();
    let [mut student, mut teacher] = [&batch.student_logits, &batch.teacher_logits]
        .map(|logits| row_values(logits, row, classes));
    if config.joins_masks() {
        for (s, t) in student.iter_mut().zip(&mut teacher) {
            if *s == f64::NEG_INFINITY || *t == f64::NEG_INFINITY {
                // NaN and `+inf` stay.
                for x in [s, t].into_iter().filter(|x| x.is_finite()) {
                    *x = f64::NEG_INFINITY;
                }
            }
        }
    }
    [student, teacher]
}

/// Mean and standard deviation, relative to the largest logit, of the classes that are not masked, and their number.
fn spread(x: &[f64]) -> (f64, f64, f64) {
    let max = max(x);
    let live: Vec<f64> = x
        .iter()
        .map(|x| x - max)
        .filter(|d| *d != f64::NEG_INFINITY)
        .collect();
    let count = live.len() as f64;
    let mean = live.iter().sum::<f64>() / count;
    let squares: f64 = live.iter().map(|d| (d - mean) * (d - mean)).sum();
    // One class has no deviation.
    (mean, (squares / (count - 1.0).max(1.0)).sqrt(), count)
}

/// The temperature of a row: the configuration's, and for standardised logits times `std + 1e-7`. Their mean changes no softmax.
pub(super) fn row_temperature(config: &Config, temperature: f32, x: &[f64]) -> f64 {
    let temperature = f64::from(temperature);
    match config.standardization {
        Standardization::None => temperature,
        Standardization::ZScore => temperature * (spread(x).1 + 1e-7),
    }
}

/// The derivative with respect to logits `x` of a function of `x / (std x + 1e-7)` that a common offset does not change, given `terms`, its
/// derivative for a constant `std x`: `terms_i - sum_j terms_j (x_j - mean x) / (std x + 1e-7) * d std x / d x_i`. Masked classes take no
/// part.
pub(super) fn through_deviation(x: &[f64], terms: &[f64]) -> Vec<f64> {
    let (max, (mean, deviation, count)) = (max(x), spread(x));
    let centred = |x: f64| match x == f64::NEG_INFINITY {
        true => 0.0,
        false => x - max - mean,
    };
    let sum: f64 = x
        .iter()
        .zip(terms)
        .map(|(x, term)| centred(*x) * term)
        .sum();
    let slope = |x: f64| match deviation == 0.0 {
        true => 0.0,
        false => centred(x) / ((count - 1.0) * deviation),
    };
    let each = x.iter().zip(terms);
    each.map(|(x, term)| term - sum / (deviation + 1e-7) * slope(*x))
        .collect()
}
