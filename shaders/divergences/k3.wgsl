// k3: e^r - 1 - r with r = ln q_c - ln p_c of a sampled token c; gradient (e^r - 1) (p - [i = c])

fn divergence_of(stats: RowStats) -> SoftPart {
    let token = sampled_token(stats);
    let value = exp_beyond_line(token.r);
    return sampled_part(value, (token.r + value) * token.slope);
}
