//! `- sum q ln p`

use crate::reference::distributions::{Pair, weighted};

pub(super) fn value(pair: Pair<'_>) -> f64 {
    pair.sum(|p, q| weighted(q.exp(), -p))
}

/// `F' = - q / p`
pub(super) fn terms(pair: Pair<'_>) -> Vec<f64> {
    pair.map(|_, q| -q.exp())
}
