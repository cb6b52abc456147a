//! `KL(q, p)`

use crate::RowStats;
use crate::cpu::part::Part;

pub(super) fn part(stats: &RowStats) -> Part {
    Part {
        value: stats.kl(),
        student: 1.0,
        teacher: 1.0,
        ..Part::default()
    }
}
