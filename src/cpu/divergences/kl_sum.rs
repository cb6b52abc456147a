//! `forward KL(q, p) + reverse KL(p, q)`

use crate::RowStats;
use crate::cpu::part::{self, Part, share};

pub(super) fn part(stats: &RowStats, forward: f64, reverse: f64) -> Part {
    let kl = part::reverse_kl(stats);
    if kl == f64::INFINITY {
        return Part::NO_GRADIENT;
    }
    Part {
        value: share(forward, stats.kl()) + reverse * kl,
        student: forward - reverse * kl,
        teacher: forward,
        first: reverse,
        second: 0.0,
        ..Part::default()
    }
}
