// The metrics of a row from its statistics (src/metrics.rs has their order). Nothing is read again.

#import metric_bits

struct Metrics {
    first: vec4<f32>,   // 0 where `unbounded` has a bit
    second: vec4<f32>,
    third: vec4<f32>,
    unbounded: u32,     // divergence or parts are infinite, the teacher's entropy is undefined
}

fn is_largest(logit: u32, largest: f32) -> f32 {
    return select(0.0, 1.0, logit != 0xff800000u && bitcast<f32>(logit) == largest);
}

// 0 for a row that the means leave out.
fn metrics_of(stats: RowStats, result: RowResult) -> Metrics {
    var y: Metrics;
    if ((result.flags & (IGNORED | INVALID_LABEL | NON_FINITE | SKIPPED)) != 0u) {
        return y;
    }
    let hard = hard_part(stats);
    let soft = divergence_of(stats);
    let log_zs = log_sum(stats.student_sum);
    y.first.z = log_zs - stats.student_moment / stats.student_sum;
    y.first.w = select(hard.value * soft.hard, 0.0, hard.infinite);
    y.second.x = select(soft.value, 0.0, soft.infinite);
    y.second.y = stats.student_max * student_inverse() + log_zs;
    y.third.x = is_largest(stats.label_logit, stats.student_max);
    y.unbounded = select(0u, UNBOUNDED_HARD, hard.infinite) | select(0u, UNBOUNDED_SOFT, soft.infinite);
#if teacher_row
    let log_zt = log_sum(stats.teacher_sum);
    let hidden = stats.masked_mass > 0.0;
    let kl = stats.difference / stats.teacher_sum + log_sum(stats.student_sum / stats.teacher_sum);
    let teacher_inverse = teacher_log2() * 0.6931471805599453;
    y.first.x = select(max(kl, 0.0), 0.0, hidden);
    y.first.y = select(log_zt - stats.teacher_moment / stats.teacher_sum, 0.0, hidden);
    y.second.z = stats.teacher_max * teacher_inverse + log_zt;
    y.second.w = select(0.0, 1.0, stats.agreement > 0.0);
    y.third.y = is_largest(stats.teacher_label_logit, stats.teacher_max);
    y.unbounded |= select(0u, UNBOUNDED_KL | UNBOUNDED_TEACHER, hidden);
#end
#if sampled
    y.unbounded |= WITHOUT_TEACHER;
#end
    return y;
}
