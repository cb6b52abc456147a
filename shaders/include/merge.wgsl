// The sums of a row from the statistics of its segments, or of shards of its classes.

// The place of the statistics of a segment.
fn place_of(row: u32, segment: u32) -> u32 {
#if whole_classes
    return row * params.segments + segment;
#end
#if sharded
    return params.record_offset + segment * params.record_stride + row;
#end
}

// The place of those that have the logits of the label.
fn place_of_label(row: u32) -> u32 {
#if sharded
    for (var i = 0u; i < params.segments; i++) {
        let place = place_of(row, i);
        if ((segment_stats[place].flags & LABEL_ELSEWHERE) == 0u) {
            return place;
        }
    }
#end
    return place_of(row, 0u);
}

fn sums_of(segment: RowStats) -> Sums {
    let log2e = 1.4426950408889634;
    var x: Sums;
    x.student_max = segment.student_max;
    x.teacher_max = segment.teacher_max;
    x.student_sum = segment.student_sum;
    x.teacher_sum = segment.teacher_sum;
    x.masked_mass = segment.masked_mass;
    x.flags = segment.flags & ~(SHARD | LABEL_ELSEWHERE);
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
        sums = combine_sums(sums, sums_of(segment_stats[place_of(row, i)]));
    }
    return reduce_sums(sums, invocation);
}
