//! The similarities by their definitions, and the derivatives of those that an attached TSSR passes through.

use super::distributions::{Pair, log_mixture, x_ln_ratio};
use crate::Similarity;

/// Twin of the kernel `second_sweep` and of the one-sweep similarities of `observe` (METHOD, section 4): the similarity of two
/// distributions, given by the logarithms of their probabilities.
pub fn second_sweep(similarity: Similarity, log_p: &[f64], log_q: &[f64]) -> f64 {
    let pair = Pair::of(log_p, log_q, 0);
    match similarity {
        Similarity::Cosine => {
            let [pq, pp, qq] = products(pair);
            pq / (pp * qq).sqrt()
        }
        Similarity::Bhattacharyya => pair.sum(|p, q| (p.exp() * q.exp()).sqrt()),
        Similarity::ExpNegKl => (-pair.sum(|p, q| x_ln_ratio(q, p)).max(0.0)).exp(),
        Similarity::JensenShannon => {
            let divergence = pair.sum(|p, q| {
                let log_mean = log_mixture(0.5, q, p);
                0.5 * (x_ln_ratio(p, log_mean) + x_ln_ratio(q, log_mean))
            });
            1.0 - divergence / std::f64::consts::LN_2
        }
        Similarity::Overlap => pair.sum(|p, q| p.exp().min(q.exp())),
    }
}

/// `sum p q`, `sum p^2`, `sum q^2`
fn products(pair: Pair<'_>) -> [f64; 3] {
    [
        pair.sum(|p, q| p.exp() * q.exp()),
        pair.sum(|p, _| p.exp() * p.exp()),
        pair.sum(|_, q| q.exp() * q.exp()),
    ]
}

/// The derivative of the similarity with respect to the student's logits over their temperature, for the similarities of one sweep.
pub(super) fn gradient(similarity: Similarity, pair: Pair<'_>) -> Vec<f64> {
    let terms = match similarity {
        Similarity::Cosine => {
            let [pq, pp, qq] = products(pair);
            let norms = (pp * qq).sqrt();
            pair.map(|p, q| p.exp() * (q.exp() / norms - pq / norms * p.exp() / pp))
        }
        Similarity::Bhattacharyya => pair.map(|p, q| (p.exp() * q.exp()).sqrt() / 2.0),
        Similarity::ExpNegKl => {
            let kdr = second_sweep(similarity, pair.log_p, pair.log_q);
            pair.map(|_, q| kdr * q.exp())
        }
        Similarity::JensenShannon | Similarity::Overlap => {
            unreachable!("a configuration with an attached TSSR and this similarity is refused")
        }
    };
    pair.through_softmax(&terms)
}
