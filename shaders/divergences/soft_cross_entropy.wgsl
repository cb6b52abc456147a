// soft-cross-entropy: - sum q ln p = ln zs - S / zt

fn divergence_of(stats: RowStats) -> SoftPart {
    let value = log_sum(stats.student_sum) - stats.soft_moment / stats.teacher_sum;
    return plain_part(value, stats.masked_mass > 0.0);
}
