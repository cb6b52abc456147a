//! `e^r - 1 - r` of a sampled token.

use crate::cpu::part::{Part, SampledToken};

pub(super) fn part(token: SampledToken) -> Part {
    token.part(token.r.exp_m1() - token.r, token.r.exp_m1())
}
