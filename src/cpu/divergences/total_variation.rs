//! `sum abs(p - q) / 2 = 1 - sum min(p, q)`

use crate::RowStats;
use crate::cpu::part::{Part, overlap};

pub(super) fn part(stats: &RowStats) -> Part {
    let (overlap, sign_mean) = overlap(stats);
    Part {
        value: 1.0 - overlap,
        student: -0.5 * sign_mean,
        first: 0.5,
        ..Part::default()
    }
}
