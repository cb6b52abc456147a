// total-variation: sum abs(p - q) / 2 = 1 - sum min(p, q)

fn divergence_of(stats: RowStats) -> SoftPart {
    let value = clamp(1.0 - stats.sweep_first, 0.0, 1.0);
    return soft_part(value, false, false, stats.sweep_second, 0.0, -1.0, 0.0);
}
