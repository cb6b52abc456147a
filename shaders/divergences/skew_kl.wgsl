// skew-kl: KL(q, m), m = alpha q + (1 - alpha) p

fn divergence_of(stats: RowStats) -> SoftPart {
    let student_share = 1.0 - params.rule_first;
    return soft_part(stats.sweep_first, false, false, student_share * stats.sweep_second, 0.0, 0.0, -student_share);
}
