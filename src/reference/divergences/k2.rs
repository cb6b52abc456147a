//! `r^2 / 2` with `r = ln q_c - ln p_c` of a sampled token `c`

use crate::reference::distributions::Pair;

pub(super) fn value(pair: Pair<'_>, clamp: f64) -> f64 {
    let r = pair.log_ratio().clamp(-clamp, clamp);
    r * r / 2.0
}

/// `r` times the derivative of `r`. 0 beyond the clamp.
pub(super) fn gradient(pair: Pair<'_>, clamp: f64) -> Vec<f64> {
    let r = pair.log_ratio();
    let by_r = if r.abs() <= clamp { r } else { 0.0 };
    pair.minus_gradient_of_log_p(by_r)
}
