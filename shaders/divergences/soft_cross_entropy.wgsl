// soft-cross-entropy: - sum q ln p = ln zs + (A - B) / zt

fn divergence_of(stats: RowStats) -> SoftPart {
    let value = log_sum(stats.student_sum) + (stats.difference - stats.moment) / stats.teacher_sum;
    return plain_part(value, stats.masked_mass > 0.0);
}
