//! `- ln sum min(p, q)`

use crate::RowStats;
use crate::cpu::part::{Part, overlap};

pub(super) fn part(stats: &RowStats) -> Part {
    let (overlap, sign_mean) = overlap(stats);
    if overlap == 0.0 {
        // No small change of the logits makes it finite: the gradient counts as 0.
        return Part {
            value: f64::INFINITY,
            ..Part::default()
        };
    }
    Part {
        value: -overlap.ln(),
        student: -0.5 * sign_mean / overlap,
        first: 0.5 / overlap,
        ..Part::default()
    }
}
