//! `beta KL(q, m) + (1 - beta) KL(p, m)` with `m = beta q + (1 - beta) p`

use crate::reference::distributions::{Pair, log_mixture, x_ln_ratio};

pub(super) fn value(pair: Pair<'_>, beta: f64) -> f64 {
    let term = |p, q| {
        let m = log_mixture(beta, q, p);
        beta * x_ln_ratio(q, m) + (1.0 - beta) * x_ln_ratio(p, m)
    };
    pair.sum(term).max(0.0)
}

/// `F' = (1 - beta) ln(p / m)`. The derivatives through `m` sum to 0.
pub(super) fn terms(pair: Pair<'_>, beta: f64) -> Vec<f64> {
    pair.map(|p, q| (1.0 - beta) * x_ln_ratio(p, log_mixture(beta, q, p)))
}
