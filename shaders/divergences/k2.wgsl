// k2: r^2 / 2 with r = ln q_c - ln p_c of a sampled token c; gradient r (p - [i = c])

fn divergence_of(stats: RowStats) -> SoftPart {
    let token = sampled_token(stats);
    return sampled_part(0.5 * token.r * token.r, token.r * token.slope);
}
