//! `- ln sum min(p, q)`

use crate::RowStats;
use crate::cpu::part::{Part, overlap};

pub(super) fn part(stats: &RowStats) -> Part {
    let (overlap, below) = overlap(stats);
    if overlap == 0.0 {
        // No small change of the logits makes it finite: the gradient counts as 0.
        return Part {
            value: f64::INFINITY,
            ..Part::default()
        };
    }
    Part {
        value: -overlap.ln(),
        student: below / overlap,
        first: -1.0 / overlap,
        ..Part::default()
    }
}
