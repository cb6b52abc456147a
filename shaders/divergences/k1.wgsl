// k1: - r with r = ln q_c - ln p_c of a sampled token c; gradient r (p - [i = c]), that of - r ln p_c with r held constant

fn divergence_of(stats: RowStats) -> SoftPart {
    let token = sampled_token(stats);
    return sampled_part(-token.r, token.r * token.slope);
}
