//! `(alpha sum q^(alpha+beta) + beta sum p^(alpha+beta)) / ((alpha + beta) alpha beta) - sum q^alpha p^beta / (alpha beta)`

use crate::reference::distributions::Pair;

pub(super) fn value(pair: Pair<'_>, alpha: f64, beta: f64) -> f64 {
    let both = alpha + beta;
    let term = |p: f64, q: f64| {
        (alpha * (both * q).exp() + beta * (both * p).exp()) / both - (alpha * q + beta * p).exp()
    };
    pair.sum(term).max(0.0) / (alpha * beta)
}

/// `F' = (p^(alpha+beta-1) - q^alpha p^(beta-1)) / alpha`
pub(super) fn terms(pair: Pair<'_>, alpha: f64, beta: f64) -> Vec<f64> {
    pair.map(|p, q| (((alpha + beta) * p).exp() - (alpha * q + beta * p).exp()) / alpha)
}
