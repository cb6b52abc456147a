// forward-kl: KL(q, p) = A / zt + ln(zs / zt)

fn divergence_of(stats: RowStats) -> SoftPart {
    let value = stats.difference / stats.teacher_sum + log_sum(stats.student_sum / stats.teacher_sum);
    return plain_part(max(value, 0.0), stats.masked_mass > 0.0);
}
