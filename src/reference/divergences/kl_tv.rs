//! `l KL(q, p) + (1 - l) TV(p, q)` with `l = scale e^(- decay sum min(p, q))`, constant for the gradient

use super::{forward_kl, neg_log_overlap, total_variation};
use crate::reference::distributions::{Pair, weighted};

fn share(pair: Pair<'_>, scale: f64, decay: f64) -> f64 {
    scale * (-decay * neg_log_overlap::overlap(pair)).exp()
}

pub(super) fn value(pair: Pair<'_>, scale: f64, decay: f64) -> f64 {
    let share = share(pair, scale, decay);
    weighted(share, forward_kl::value(pair)) + (1.0 - share) * total_variation::value(pair)
}

pub(super) fn terms(pair: Pair<'_>, scale: f64, decay: f64) -> Vec<f64> {
    let share = share(pair, scale, decay);
    let both = forward_kl::terms(pair)
        .into_iter()
        .zip(total_variation::terms(pair));
    both.map(|(kl, tv)| share * kl + (1.0 - share) * tv)
        .collect()
}
