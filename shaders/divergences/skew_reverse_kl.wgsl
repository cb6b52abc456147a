// skew-reverse-kl: KL(p, m), m = alpha p + (1 - alpha) q

fn divergence_of(stats: RowStats) -> SoftPart {
    let alpha = params.rule_first;
    let student = -(stats.sweep_first + alpha * stats.sweep_second);
    return SoftPart(stats.sweep_first, false, false, student, 0.0, 1.0, alpha);
}
