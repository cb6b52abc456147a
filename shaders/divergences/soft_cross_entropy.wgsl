// soft-cross-entropy: - sum q ln p = ln zs - S / zt; with weights of classes - sum v q ln p = (zv ln zs - Sv) / zt

fn divergence_of(stats: RowStats) -> SoftPart {
#if soft_equal
    let value = log_sum(stats.student_sum) - stats.soft_moment / stats.teacher_sum;
    return plain_part(value, stats.masked_mass > 0.0);
#end
#if soft_weighted
    let value = (stats.weighted_teacher * log_sum(stats.student_sum) - stats.weighted_soft) / stats.teacher_sum;
    let mass = (stats.weighted_teacher + stats.weighted_masked) / stats.teacher_sum;
    return soft_part(value, stats.weighted_masked > 0.0, false, mass, 1.0, 0.0, 0.0);
#end
}
