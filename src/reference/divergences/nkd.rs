//! `gamma` times the cross-entropy of the classes beside the label. `mix.rs` multiplies the hard part.

use super::soft_cross_entropy;
use crate::reference::distributions::{Pair, others};

pub(super) fn value(pair: Pair<'_>, gamma: f64) -> f64 {
    let [log_p, log_q] = [pair.log_p, pair.log_q].map(|log| others(log, pair.label));
    let beside = Pair {
        log_p: &log_p,
        log_q: &log_q,
        label: pair.label,
    };
    gamma * soft_cross_entropy::value(beside)
}

/// With respect to the logits: `gamma (p' - q')`, 0 at the label.
pub(super) fn gradient(pair: Pair<'_>, gamma: f64) -> Vec<f64> {
    let [log_p, log_q] = [pair.log_p, pair.log_q].map(|log| others(log, pair.label));
    let live = |log: &[f64]| log.iter().any(|x| *x > f64::NEG_INFINITY);
    let gamma = if live(&log_p) && live(&log_q) {
        gamma
    } else {
        0.0
    };
    let each = log_p.iter().zip(&log_q);
    each.map(|(p, q)| gamma * (p.exp() - q.exp())).collect()
}
