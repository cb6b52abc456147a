//! `KL(m, p)` with `m = softmax(share t + (1 - share) s)`, constant for the gradient

use crate::reference::distributions::{Pair, log_softmax_row, x_ln_ratio};

/// `ln m`; NaN if student and teacher have no class in common.
fn log_intermediate(pair: Pair<'_>, share: f64) -> Vec<f64> {
    log_softmax_row(&pair.map(|p, q| share * q + (1.0 - share) * p), 1.0)
}

/// Without a common class it is infinite, and there is no gradient.
pub(super) fn value(pair: Pair<'_>, share: f64) -> f64 {
    let m = log_intermediate(pair, share);
    let terms = m.iter().zip(pair.log_p).map(|(m, p)| x_ln_ratio(*m, *p));
    let sum: f64 = terms.sum();
    if sum.is_nan() {
        f64::INFINITY
    } else {
        sum.max(0.0)
    }
}

/// `F' = - m / p`
pub(super) fn terms(pair: Pair<'_>, share: f64) -> Vec<f64> {
    let m = log_intermediate(pair, share);
    m.into_iter().map(|m| -m.exp()).collect()
}
