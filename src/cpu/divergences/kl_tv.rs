//! `l KL(q, p) + (1 - l) TV(p, q)` with `l = scale e^(- decay sum min(p, q))`, a constant for the gradient

use crate::RowStats;
use crate::cpu::part::{Part, overlap, share};

pub(super) fn part(stats: &RowStats, scale: f64, decay: f64) -> Part {
    let (overlap, below) = overlap(stats);
    let l = scale * (-decay * overlap).exp();
    Part {
        value: share(l, stats.kl()) + (1.0 - l) * (1.0 - overlap),
        student: l + (1.0 - l) * below,
        teacher: l,
        first: -(1.0 - l),
        second: 0.0,
        ..Part::default()
    }
}
