//! `sum abs(p - q) / 2 = 1 - sum min(p, q)`

use crate::RowStats;
use crate::cpu::part::{Part, overlap};

pub(super) fn part(stats: &RowStats) -> Part {
    let (overlap, below) = overlap(stats);
    Part {
        value: 1.0 - overlap,
        student: below,
        first: -1.0,
        ..Part::default()
    }
}
