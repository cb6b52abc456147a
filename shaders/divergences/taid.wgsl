// taid: KL(m, p), m = softmax(share t + (1 - share) s) with s detached: share W / X - ln X + ln zs

fn divergence_of(stats: RowStats) -> SoftPart {
    let share = params.rule_first;
    let least = 1.2e-38;
    // No class is possible for both, or the sum is below f32: the mixture has no class at all.
    let empty = stats.power_cross < least;
    let cross = max(stats.power_cross, least);
    let value = share * stats.power_difference / cross + log_sum(stats.student_sum / cross);
    // m = q^share p^(1 - share) / mass. Half of the mass divides p and q, because all of it would take the product with a loss scale beyond f32.
    let log_mass = log2(cross) - share * log2(stats.teacher_sum) - (1.0 - share) * log2(stats.student_sum);
    let inverse = exp2(-0.5 * log_mass);
    var soft = soft_part(max(value, 0.0), empty, empty, 1.0, 0.0, -inverse, 0.0);
    soft.inverse = inverse;
    return soft;
}
