//! `- ln sum min(p, q)`

use super::total_variation::sign;
use crate::reference::distributions::Pair;

pub(super) fn overlap(pair: Pair<'_>) -> f64 {
    pair.sum(|p, q| p.exp().min(q.exp())).min(1.0)
}

pub(super) fn value(pair: Pair<'_>) -> f64 {
    -overlap(pair).ln()
}

/// `F' = - (1 - sgn(p - q)) / (2 overlap)`, since `min(p, q) = (p + q - abs(p - q)) / 2`. Without an overlap the value is infinite, and
/// the gradient counts as 0.
pub(super) fn terms(pair: Pair<'_>) -> Vec<f64> {
    match overlap(pair) {
        0.0 => vec![0.0; pair.log_p.len()],
        overlap => pair.map(|p, q| p.exp() * (sign(p, q) - 1.0) / (2.0 * overlap)),
    }
}
