// jsd: beta KL(q, m) + (1 - beta) KL(p, m), m = beta q + (1 - beta) p

fn divergence_of(stats: RowStats) -> SoftPart {
    let beta = params.rule_first;
    let student = (1.0 - beta) * stats.sweep_first;
    return soft_part(student + beta * stats.sweep_second, false, false, -student, 0.0, 1.0 - beta, 0.0);
}
