// The sums of a row from the statistics of its segments.

fn sums_of(segment: RowStats) -> Sums {
    let log2e = 1.4426950408889634;
    var x: Sums;
    x.student_max = segment.student_max;
    x.teacher_max = segment.teacher_max;
    x.student_sum = segment.student_sum;
    x.teacher_sum = segment.teacher_sum;
    x.masked_mass = segment.masked_mass;
    x.flags = segment.flags;
#moments
    x.$moment = segment.$moment;
#end
#moments with a factor
    x.$moment *= log2e;
#end
    return x;
}

// Returns the merged sums to every lane of the row. Must be called in uniform control flow.
fn merge_segments(row: u32, invocation: Invocation) -> Sums {
    var sums = sums_identity();
    for (var i = invocation.lane; i < params.segments; i += LANES) {
        sums = combine_sums(sums, sums_of(segment_stats[row * params.segments + i]));
    }
    return reduce_sums(sums, invocation);
}
