// wsld: the cross-entropy of student and teacher, times w = 1 - e^(- CE / (CE of the teacher + 1e-7)), which has no gradient.
// CE: the cross-entropy with the label, at the hard part's temperature.

// - ln p of the label, from its logit and the sum of the other classes; its small values keep their digits.
fn label_cross_entropy(logit: u32, largest: f32, inverse: f32, rest: f32) -> f32 {
    if (!(rest > 0.0)) {
        return 0.0;
    }
    let x = clamp((largest - bitcast<f32>(logit)) * inverse + log(rest), -100.0, 1e37);
    // ln(1 + y) = 2 atanh(y / (2 + y)); `log` is not exact enough near 1.
    let y = exp(-abs(x));
    let u = y / (2.0 + y);
    let v = u * u;
    let series = 1.0 + v * (0.33333334 + v * (0.2 + v * (0.14285715 + v * (0.11111111 + v * (0.09090909 + v * 0.07692308)))));
    return max(x, 0.0) + 2.0 * u * series;
}

fn soft_label_weight(stats: RowStats) -> f32 {
    let masked = 0xff800000u;
    if (stats.label_logit == masked) {
        return 1.0;
    }
    if (stats.teacher_label_logit == masked) {
        return 0.0;
    }
    var rest = stats.rest_student_sum;
    if (HARD_OWN) {
        rest = stats.rest_hard_sum;
    }
    let student = label_cross_entropy(stats.label_logit, stats.rest_student_max, params.hard_inverse, rest);
    let teacher = label_cross_entropy(stats.teacher_label_logit, stats.rest_teacher_max, params.hard_inverse, stats.rest_teacher_hard_sum);
    // Beyond 100, e^(- ratio) is 0 in f32.
    let ratio = min(student / (teacher + 1e-7), 100.0);
    let near = ratio * (1.0 - ratio * (0.5 - ratio * (0.16666667 - ratio * 0.041666668)));
    return select(1.0 - exp(-ratio), near, ratio < 0.03125);
}

fn divergence_of(stats: RowStats) -> SoftPart {
    let weight = soft_label_weight(stats);
    let teacher_inverse = params.teacher_log2 * 0.6931471805599453;
    let s = label_log_odds(stats.label_logit, stats.rest_student_max, params.student_inverse, stats.rest_student_sum);
    let t = label_log_odds(stats.teacher_label_logit, stats.rest_teacher_max, teacher_inverse, stats.rest_teacher_sum);
    let difference = select(sigmoid(s) - sigmoid(t), sigmoid(-t) - sigmoid(-s), s > 0.0);
    let value = log_sum(stats.student_sum) - stats.soft_moment / stats.teacher_sum;
    let infinite = weight > 0.0 && stats.masked_mass > 0.0;
    var soft = soft_part(weight * value, infinite, false, weight * sigmoid(-s), weight * sigmoid(-t), 0.0, 0.0);
    soft.label = weight * difference;
    return soft;
}
