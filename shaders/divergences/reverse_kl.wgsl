// reverse-kl: KL(p, q) = R / zs + ln(zt / zs); gradient f1 - KL(p, q) p

fn divergence_of(stats: RowStats) -> SoftPart {
    let value = max(stats.reverse_difference / stats.student_sum + log_sum(stats.teacher_sum / stats.student_sum), 0.0);
    let infinite = stats.unseen_mass > 0.0;
    return soft_part(value, infinite, infinite, -value, 0.0, 1.0, 0.0);
}
