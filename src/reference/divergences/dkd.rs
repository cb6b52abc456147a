//! `alpha TCKD + beta NCKD`, with the classes in two groups: the label, and the others.

use super::forward_kl;
use crate::reference::distributions::{Pair, log_rest, weighted, x_ln_ratio};

pub(super) fn value(pair: Pair<'_>, alpha: f64, beta: f64) -> f64 {
    let [p, q] = [pair.log_p, pair.log_q].map(|log| (log[pair.label], log_rest(log, pair.label)));
    let target = x_ln_ratio(q.0, p.0) + x_ln_ratio(q.1, p.1);
    let divergence = forward_kl::value(pair.beside());
    weighted(alpha, target) + weighted(beta, divergence)
}

/// With respect to the logits: `alpha D` at the label, `D = p - q`, and `beta (p' - q') - alpha D p'` for the distribution `p'` of the
/// others.
pub(super) fn gradient(pair: Pair<'_>, alpha: f64, beta: f64) -> Vec<f64> {
    let (p, q) = (pair.log_p[pair.label].exp(), pair.log_q[pair.label].exp());
    let rest = |log: &[f64]| log_rest(log, pair.label).exp();
    let difference = match p > 0.5 {
        true => rest(pair.log_q) - rest(pair.log_p),
        false => p - q,
    };
    let beside = pair.beside();
    let beta = if beside.both_live() { beta } else { 0.0 };
    let mut gradient = beside.map(|p, q| (beta - alpha * difference) * p.exp() - beta * q.exp());
    gradient[pair.label] = alpha * difference;
    gradient
}
