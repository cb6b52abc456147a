// skew-reverse-kl: KL(p, m), m = alpha p + (1 - alpha) q

fn divergence_of(stats: RowStats) -> SoftPart {
    let teacher_share = 1.0 - params.rule_first;
    let student = -(stats.sweep_first + teacher_share * stats.sweep_second);
    return soft_part(stats.sweep_first, false, false, student, 0.0, 1.0, teacher_share);
}
