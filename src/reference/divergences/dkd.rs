//! `alpha TCKD + beta NCKD`, with the classes in two groups: the label, and the others.

use super::forward_kl;
use crate::reference::distributions::{Pair, log_rest, others, weighted, x_ln_ratio};

pub(super) fn value(pair: Pair<'_>, alpha: f64, beta: f64) -> f64 {
    let [p, q] = [pair.log_p, pair.log_q].map(|log| (log[pair.label], log_rest(log, pair.label)));
    let target = x_ln_ratio(q.0, p.0) + x_ln_ratio(q.1, p.1);
    let [log_p, log_q] = [pair.log_p, pair.log_q].map(|log| others(log, pair.label));
    let divergence = forward_kl::value(Pair {
        log_p: &log_p,
        log_q: &log_q,
        label: pair.label,
    });
    weighted(alpha, target) + weighted(beta, divergence)
}

/// With respect to the logits: `alpha D` at the label, `D = p - q`, and `beta (p' - q') - alpha D p'` for the distribution `p'` of the
/// others.
pub(super) fn gradient(pair: Pair<'_>, alpha: f64, beta: f64) -> Vec<f64> {
    let [log_p, log_q] = [pair.log_p, pair.log_q].map(|log| others(log, pair.label));
    let (p, q) = (pair.log_p[pair.label].exp(), pair.log_q[pair.label].exp());
    let rest = |log: &[f64]| log_rest(log, pair.label).exp();
    let difference = match p > 0.5 {
        true => rest(pair.log_q) - rest(pair.log_p),
        false => p - q,
    };
    let both = log_p.iter().any(|x| *x > f64::NEG_INFINITY)
        && log_q.iter().any(|x| *x > f64::NEG_INFINITY);
    let beta = if both { beta } else { 0.0 };
    let each = log_p.iter().zip(&log_q);
    let mut gradient: Vec<f64> = each
        .map(|(p, q)| (beta - alpha * difference) * p.exp() - beta * q.exp())
        .collect();
    gradient[pair.label] = alpha * difference;
    gradient
}
