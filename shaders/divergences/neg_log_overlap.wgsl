// neg-log-overlap: - ln sum min(p, q). Disjoint distributions have an infinite loss and the gradient 0.

fn divergence_of(stats: RowStats) -> SoftPart {
    let overlap = min(stats.sweep_first, 1.0);
    let disjoint = !(overlap > 0.0);
    let scale = select(1.0 / max(overlap, 1.2e-38), 0.0, disjoint);
    return soft_part(-log_sum(max(overlap, 1.2e-38)), disjoint, false, scale * stats.sweep_second, 0.0, -scale, 0.0);
}
