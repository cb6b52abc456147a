//! `KL(p, q)`

use crate::RowStats;
use crate::cpu::part::{self, Part};

pub(super) fn part(stats: &RowStats) -> Part {
    let kl = part::reverse_kl(stats);
    if kl == f64::INFINITY {
        return Part::NO_GRADIENT;
    }
    Part {
        value: kl,
        student: -kl,
        first: 1.0,
        ..Part::default()
    }
}
