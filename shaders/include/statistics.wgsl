// One row's RowStats, complete: sums of all its lanes, KDR, label, flags. Every lane of the row gets it.

#import types
#import sums
#import observe
#import similarity
#import $REDUCE

// Must be called in uniform control flow; `row.units` is 0 where the row is ignored or does not exist.
fn row_stats_of(row: Row, place: Place, label: i32, ignored: bool) -> RowStats {
    var stats: RowStats;
    stats.label = label;
    let is_class = label >= 0 && u32(label) < params.classes;
    // Before the reduction: after it, a fast lane may already write a gradient over the student's logits.
    if (is_class && !ignored) {
        stats.label_logit = bitcast<u32>(load_student_at(row.student, u32(label)));
    }
    let sums = reduce_sums(observe_row(row, place), place);
    var swept = 0.0;
    if (SECOND_SWEEP) {
        swept = reduce_add(second_sweep(row, place, sums), place);
    }
    if (ignored) {
        stats.flags = IGNORED;
        return stats;
    }
    stats.flags = sums.flags;
    if (!is_class) {
        stats.flags |= INVALID_LABEL;
    }
    let live = STUDENT_LIVE | TEACHER_LIVE;
    if ((sums.flags & live) != live) {
        stats.flags |= NON_FINITE;
    }
    stats.student_max = sums.student_max;
    stats.student_sum = sums.student_sum;
    stats.teacher_max = sums.teacher_max;
    stats.teacher_sum = sums.teacher_sum;
    stats.difference = sums.difference;
    stats.moment = sums.moment;
    stats.cross = select(sums.cross, swept, SECOND_SWEEP);
    stats.student_square = sums.student_square;
    stats.teacher_square = sums.teacher_square;
    stats.student_offset = sums.student_offset;
    stats.student_count = sums.student_count;
    stats.masked_mass = sums.masked_mass;
    let finite = (stats.flags & NON_FINITE) == 0u;
    stats.kdr = select(params.nan_bits, bitcast<u32>(similarity_of(sums, swept)), finite);
    return stats;
}
