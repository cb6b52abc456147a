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
    let log_zt = log_sum(stats.teacher_sum);
    let hidden = stats.masked_mass > 0.0;
    let kl = stats.difference / stats.teacher_sum + log_sum(stats.student_sum / stats.teacher_sum);
    y.first = vec4<f32>(
        select(max(kl, 0.0), 0.0, hidden),
        select(log_zt - stats.teacher_moment / stats.teacher_sum, 0.0, hidden),
        log_zs - stats.student_moment / stats.student_sum,
        select(hard.value * soft.hard, 0.0, hard.infinite),
    );
    let teacher_inverse = teacher_log2() * 0.6931471805599453;
    y.second = vec4<f32>(
        select(soft.value, 0.0, soft.infinite),
        stats.student_max * student_inverse() + log_zs,
        stats.teacher_max * teacher_inverse + log_zt,
        select(0.0, 1.0, stats.agreement > 0.0),
    );
    y.third = vec4<f32>(
        is_largest(stats.label_logit, stats.student_max),
        is_largest(stats.teacher_label_logit, stats.teacher_max),
        0.0,
        0.0,
    );
    y.unbounded = select(0u, UNBOUNDED_KL | UNBOUNDED_TEACHER, hidden)
        | select(0u, UNBOUNDED_HARD, hard.infinite)
        | select(0u, UNBOUNDED_SOFT, soft.infinite);
    return y;
}
