// The sums of a row from the statistics of its segments.

fn sums_of(segment: RowStats) -> Sums {
    let log2e = 1.4426950408889634;
    return Sums(
        segment.student_max,
        segment.teacher_max,
        segment.student_sum,
        segment.teacher_sum,
        segment.difference * log2e,
        segment.moment * log2e,
        segment.cross,
        segment.student_square,
        segment.teacher_square,
        segment.student_offset * log2e,
        segment.student_count,
        segment.masked_mass,
        segment.flags,
    );
}

// Returns the merged sums to every lane of the row. Must be called in uniform control flow.
fn merge_segments(row: u32, invocation: Invocation) -> Sums {
    var sums = sums_identity();
    for (var i = invocation.lane; i < params.segments; i += LANES) {
        sums = combine_sums(sums, sums_of(segment_stats[row * params.segments + i]));
    }
    return reduce_sums(sums, invocation);
}
