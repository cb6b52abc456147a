//! `gamma` times the cross-entropy of the classes beside the label. `mix.rs` multiplies the hard part.

use super::soft_cross_entropy;
use crate::reference::distributions::Pair;

pub(super) fn value(pair: Pair<'_>, gamma: f64) -> f64 {
    gamma * soft_cross_entropy::value(pair.beside())
}

/// With respect to the logits: `gamma (p' - q')`, 0 at the label.
pub(super) fn gradient(pair: Pair<'_>, gamma: f64) -> Vec<f64> {
    let beside = pair.beside();
    let gamma = if beside.both_live() { gamma } else { 0.0 };
    beside.map(|p, q| gamma * (p.exp() - q.exp()))
}
