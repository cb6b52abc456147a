//! `sum abs(p - q) / 2`

use crate::reference::distributions::Pair;

/// Two probabilities whose difference is at most this part of the larger one count as equal: rounding must not decide the sign.
const TIE: f64 = 4e-6;

/// `sgn(p - q)`
pub(super) fn sign(log_p: f64, log_q: f64) -> f64 {
    let (p, q) = (log_p.exp(), log_q.exp());
    if (p - q).abs() <= TIE * p.max(q) {
        0.0
    } else {
        (p - q).signum()
    }
}

pub(super) fn value(pair: Pair<'_>) -> f64 {
    pair.sum(|p, q| (p.exp() - q.exp()).abs()) / 2.0
}

/// `F' = sgn(p - q) / 2`
pub(super) fn terms(pair: Pair<'_>) -> Vec<f64> {
    pair.map(|p, q| p.exp() * sign(p, q) / 2.0)
}
