//! `sum p ln(p / m)` with `m = alpha p + (1 - alpha) q`

use crate::reference::distributions::{Pair, log_mixture, x_ln_ratio};

pub(super) fn value(pair: Pair<'_>, alpha: f64) -> f64 {
    let term = |p, q| x_ln_ratio(p, log_mixture(alpha, p, q));
    pair.sum(term).max(0.0)
}

/// `F' = ln(p / m) + 1 - alpha p / m`
pub(super) fn terms(pair: Pair<'_>, alpha: f64) -> Vec<f64> {
    pair.map(|p, q| match log_mixture(alpha, p, q) {
        f64::NEG_INFINITY => 0.0,
        m => x_ln_ratio(p, m) + p.exp() - alpha * (2.0 * p - m).exp(),
    })
}
