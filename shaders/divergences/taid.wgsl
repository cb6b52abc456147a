// taid: KL(m, p), m = softmax(share t + (1 - share) s) with s detached: share W / X - ln X + ln zs

fn divergence_of(stats: RowStats) -> SoftPart {
    let share = params.rule_first;
    let cross = stats.power_cross;
    // No class is possible for both: the mixture has no class at all.
    let disjoint = !(cross > 0.0);
    let safe = max(cross, 1.2e-38);
    let value = share * stats.power_difference / safe + log_sum(stats.student_sum / safe);
    // m = q^share p^(1 - share) / its sum
    let log_mass = log2(safe) - share * log2(stats.teacher_sum) - (1.0 - share) * log2(stats.student_sum);
    return soft_part(max(value, 0.0), disjoint, disjoint, 1.0, 0.0, -exp2(-log_mass), 0.0);
}
