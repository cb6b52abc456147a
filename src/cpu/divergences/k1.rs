//! `- r` of a sampled token, with the gradient of `- r ln p_c` for a constant `r`.

use crate::cpu::part::{Part, SampledToken};

pub(super) fn part(token: SampledToken) -> Part {
    token.part(-token.r, token.r)
}
