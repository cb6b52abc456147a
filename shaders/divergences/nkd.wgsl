// nkd: gamma times the cross-entropy of the classes beside the label; the hard part times 1 + q of the label, at the hard part's temperature

fn divergence_of(stats: RowStats) -> SoftPart {
    let gamma = params.rule_first;
    var soft = soft_part(0.0, false, false, 0.0, 0.0, 0.0, 0.0);
    let t = label_log_odds(stats.teacher_label_logit, stats.rest_teacher_max, params.hard_inverse, stats.rest_teacher_hard_sum);
    soft.hard = 1.0 + sigmoid(t);
    if (stats.rest_teacher_sum > 0.0 && stats.rest_student_sum > 0.0) {
        soft.value = gamma * (log_sum(stats.rest_student_sum) - stats.rest_soft_moment / stats.rest_teacher_sum);
        soft.student = gamma;
        soft.teacher = gamma;
    }
    soft.infinite = stats.rest_masked_mass > 0.0;
    return soft;
}
