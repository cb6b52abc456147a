// kl-tv: l KL(q, p) + (1 - l) TV(p, q), l = scale e^(- decay sum min(p, q)), without a gradient through l

fn divergence_of(stats: RowStats) -> SoftPart {
    let overlap = clamp(stats.sweep_first, 0.0, 1.0);
    let l = params.rule_first * exp(-params.rule_second * overlap);
    let kl = max(stats.difference / stats.teacher_sum + log_sum(stats.student_sum / stats.teacher_sum), 0.0);
    let infinite = stats.masked_mass > 0.0 && l > 0.0;
    let student = l + (1.0 - l) * stats.sweep_second;
    return soft_part(l * kl + (1.0 - l) * (1.0 - overlap), infinite, false, student, l, -(1.0 - l), 0.0);
}
