//! `sum q ln(q / p)`

use crate::reference::distributions::{Pair, x_ln_ratio};

pub(super) fn value(pair: Pair<'_>) -> f64 {
    pair.sum(|p, q| x_ln_ratio(q, p)).max(0.0)
}

/// `F' = - q / p`
pub(super) fn terms(pair: Pair<'_>) -> Vec<f64> {
    pair.map(|_, q| -q.exp())
}
