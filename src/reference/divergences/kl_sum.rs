//! `forward KL(q, p) + reverse KL(p, q)`

use super::{forward_kl, reverse_kl};
use crate::reference::distributions::{Pair, weighted};

pub(super) fn value(pair: Pair<'_>, forward: f64, reverse: f64) -> f64 {
    weighted(forward, forward_kl::value(pair)) + weighted(reverse, reverse_kl::value(pair))
}

pub(super) fn terms(pair: Pair<'_>, forward: f64, reverse: f64) -> Vec<f64> {
    let both = forward_kl::terms(pair)
        .into_iter()
        .zip(reverse_kl::terms(pair));
    both.map(|(f, r)| forward * f + reverse * r).collect()
}
