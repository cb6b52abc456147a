// RowStats from sums: `stats_from` of a segment, then `complete_stats` of a whole row, with its KDR.

fn stats_from(sums: Sums, label: i32, label_logit: u32) -> RowStats {
    var stats: RowStats;
    stats.label = label;
    stats.flags = sums.flags;
    if ((sums.flags & IGNORED) != 0u) {
        stats.flags = IGNORED;
        return stats;
    }
    stats.label_logit = label_logit;
    stats.student_max = sums.student_max;
    stats.student_sum = sums.student_sum;
    stats.teacher_max = sums.teacher_max;
    stats.teacher_sum = sums.teacher_sum;
    stats.difference = sums.difference;
    stats.moment = sums.moment;
    stats.cross = sums.cross;
    stats.student_square = sums.student_square;
    stats.teacher_square = sums.teacher_square;
    stats.student_offset = sums.student_offset;
    stats.student_count = sums.student_count;
    stats.masked_mass = sums.masked_mass;
    return stats;
}

// The statistics of a whole row; `similarity_sum` is the second sweep's, 0 without one.
fn complete_stats(stats: RowStats, sums: Sums, similarity_sum: f32) -> RowStats {
    var y = stats;
    if ((stats.flags & IGNORED) != 0u) {
        return y;
    }
    let live = STUDENT_LIVE | TEACHER_LIVE;
    if ((stats.flags & live) != live) {
        y.flags |= NON_FINITE;
    }
    y.cross = select(sums.cross, similarity_sum, SECOND_SWEEP);
    let finite = (y.flags & NON_FINITE) == 0u;
    y.kdr = select(params.nan_bits, bitcast<u32>(similarity_of(sums, similarity_sum)), finite);
    return y;
}
