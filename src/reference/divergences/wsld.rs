//! `- sum q ln p`. `mix.rs` multiplies it by the row's weight.

use super::soft_cross_entropy;
use crate::reference::distributions::Pair;

pub(super) fn value(pair: Pair<'_>) -> f64 {
    soft_cross_entropy::value(pair)
}

/// With respect to the logits: `p - q`.
pub(super) fn gradient(pair: Pair<'_>) -> Vec<f64> {
    pair.map(|p, q| p.exp() - q.exp())
}
