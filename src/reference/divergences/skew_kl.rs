//! `sum q ln(q / m)` with `m = alpha q + (1 - alpha) p`

use crate::reference::distributions::{Pair, log_mixture, x_ln_ratio};

pub(super) fn value(pair: Pair<'_>, alpha: f64) -> f64 {
    let term = |p, q| x_ln_ratio(q, log_mixture(alpha, q, p));
    pair.sum(term).max(0.0)
}

/// `F' = - (1 - alpha) q / m`
pub(super) fn terms(pair: Pair<'_>, alpha: f64) -> Vec<f64> {
    pair.map(|p, q| match log_mixture(alpha, q, p) {
        f64::NEG_INFINITY => 0.0,
        m => -(1.0 - alpha) * (p + q - m).exp(),
    })
}
