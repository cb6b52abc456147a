//! `sum p ln(p / q)`

use crate::reference::distributions::{Pair, x_ln_ratio};

pub(super) fn value(pair: Pair<'_>) -> f64 {
    pair.sum(x_ln_ratio).max(0.0)
}

/// `F' = ln(p / q) + 1`, infinite where only `q` is 0.
pub(super) fn terms(pair: Pair<'_>) -> Vec<f64> {
    pair.map(|p, q| x_ln_ratio(p, q) + p.exp())
}
