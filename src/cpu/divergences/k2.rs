//! `r^2 / 2` of a sampled token.

use crate::cpu::part::{Part, SampledToken};

pub(super) fn part(token: SampledToken) -> Part {
    token.part(0.5 * token.r * token.r, token.r)
}
