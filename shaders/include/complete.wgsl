// RowStats from sums: `stats_from` of a segment, then `complete_stats` of a whole row, with its KDR.

fn stats_from(sums: Sums, label: i32, label_logit: u32, teacher_label_logit: u32, weight: f32) -> RowStats {
    var stats: RowStats;
    stats.label = label;
    stats.flags = sums.flags;
    if ((sums.flags & IGNORED) != 0u) {
        stats.flags = IGNORED;
        return stats;
    }
    stats.label_logit = label_logit;
    stats.teacher_label_logit = teacher_label_logit;
    stats.weight = weight;
    stats.student_max = sums.student_max;
    stats.student_sum = sums.student_sum;
    stats.teacher_max = sums.teacher_max;
    stats.teacher_sum = sums.teacher_sum;
    stats.masked_mass = sums.masked_mass;
#moments
    stats.$moment = sums.$moment;
#end
    return stats;
}

// Adds the sums of the classes beside the label, in nats.
fn with_rest(stats: RowStats, rest: Sums) -> RowStats {
    var y = stats;
    y.rest_student_max = rest.student_max;
    y.rest_student_sum = rest.student_sum;
    y.rest_teacher_max = rest.teacher_max;
    y.rest_teacher_sum = rest.teacher_sum;
    y.rest_masked_mass = rest.masked_mass;
#moments of the rest
    y.rest_$moment = rest.$moment;
#end
    return y;
}

// The statistics of a whole row; `sweep_sums` are the second sweep's, 0 without one.
fn complete_stats(stats: RowStats, sums: Sums, sweep_sums: vec3<f32>) -> RowStats {
    var y = stats;
    if ((stats.flags & IGNORED) != 0u) {
        return y;
    }
    let live = STUDENT_LIVE | TEACHER_LIVE;
    if ((stats.flags & live) != live) {
        y.flags |= NON_FINITE;
    }
    y.similarity_sum = sweep_sums.x;
    y.sweep_first = sweep_sums.y;
    y.sweep_second = sweep_sums.z;
    let finite = (y.flags & NON_FINITE) == 0u;
#if teacher_known
    y.kdr = select(params.nan_bits, bitcast<u32>(similarity_of(sums, sweep_sums.x)), finite);
#end
#if sampled
    y.kdr = select(params.nan_bits, 0u, finite);
#end
    return y;
}
