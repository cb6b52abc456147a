// kl-sum: forward KL(q, p) + reverse KL(p, q), with fixed weights

fn divergence_of(stats: RowStats) -> SoftPart {
    let forward = params.rule_first;
    let reverse = params.rule_second;
    let kl = max(stats.difference / stats.teacher_sum + log_sum(stats.student_sum / stats.teacher_sum), 0.0);
    let reverse_kl = max(stats.reverse_difference / stats.student_sum + log_sum(stats.teacher_sum / stats.student_sum), 0.0);
    let undefined = stats.unseen_mass > 0.0;
    let infinite = undefined || (stats.masked_mass > 0.0 && forward > 0.0);
    return soft_part(forward * kl + reverse * reverse_kl, infinite, undefined, forward - reverse * reverse_kl, forward, reverse, 0.0);
}
