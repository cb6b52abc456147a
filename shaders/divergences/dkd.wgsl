// dkd: alpha TCKD + beta NCKD. TCKD: the divergence of the label's probability p against 1 - p; NCKD: the forward divergence of the other
// classes. At the label the gradient is alpha D, D = p - q.

fn divergence_of(stats: RowStats) -> SoftPart {
    let alpha = params.rule_first;
    let beta = params.rule_second;
    let teacher_inverse = params.teacher_log2 * 0.6931471805599453;
    let s = label_log_odds(stats.label_logit, stats.rest_student_max, params.student_inverse, stats.rest_student_sum);
    let t = label_log_odds(stats.teacher_label_logit, stats.rest_teacher_max, teacher_inverse, stats.rest_teacher_sum);
    let target_class = sigmoid(t) * (softplus(-s) - softplus(-t)) + sigmoid(-t) * (softplus(s) - softplus(t));
    let difference = select(sigmoid(s) - sigmoid(t), sigmoid(-t) - sigmoid(-s), s > 0.0);
    var soft = soft_part(alpha * max(target_class, 0.0), false, false, -alpha * difference, 0.0, 0.0, 0.0);
    soft.label = alpha * difference;
    let label_masked = stats.label_logit == 0xff800000u && stats.teacher_label_logit != 0xff800000u;
    let rest_masked = !(stats.rest_student_sum > 0.0) && stats.rest_teacher_sum > 0.0;
    soft.infinite = alpha > 0.0 && (label_masked || rest_masked);
    if (stats.rest_teacher_sum > 0.0 && stats.rest_student_sum > 0.0) {
        let others = stats.rest_difference / stats.rest_teacher_sum + log_sum(stats.rest_student_sum / stats.rest_teacher_sum);
        soft.value += beta * max(others, 0.0);
        soft.student += beta;
        soft.teacher = beta;
    }
    soft.infinite = soft.infinite || (beta > 0.0 && stats.rest_masked_mass > 0.0);
    return soft;
}
