// RowStats of a row, or of a segment of one: sums over its lanes, label, flags, and for a whole row its KDR.

#import types
#import sums
#import label_apart
#if teacher_known
#import similarity
#end
#import complete
#import soft_labels
#import observe
#import sweep
#import sweep_kept
#if listed
#import observe_list
#end
#if standardized
#import deviation
#end
#import $REDUCE
#if sharded
#import shard
#end

// Returns true if the sums are those of all classes of a row.
fn row_is_complete() -> bool {
    return !SHARDED && params.segments == 1u;
}

// The bits of a row's weight.
fn weight_of(row: u32) -> u32 {
#if weighted_rows
    return row_weights[params.weight_offset + row];
#end
#if equal_rows
    return 0x3f800000u;
#end
}

// Returns the statistics to every lane. Must be called in uniform control flow. `row.vectors` is 0 if the row is ignored or does not exist.
fn row_stats_of(row: Row, invocation: Invocation, label: i32, weight: u32, ignored: bool) -> RowStats {
    let is_class = label >= 0 && u32(label) < params.label_classes;
    // A label that is no class adds nothing to the sums.
    var label_logit = select(0u, 0xff800000u, LABEL_APART);
    var teacher_label_logit = label_logit;
    // Read before the reduction: after it, a fast lane may already overwrite the student's logits with the gradient.
    if (is_class && !ignored) {
        label_logit = bitcast<u32>(load_student_at(row.student, u32(label)));
        if (TEACHER_LABEL) {
            let has_teacher = u32(label) < params.teacher_classes;
            teacher_label_logit = select(0xff800000u, bitcast<u32>(load_teacher_at(row.teacher, u32(label))), has_teacher);
        }
#if masks_joined
        let masked = 0xff800000u;
        if (label_logit == masked || teacher_label_logit == masked) {
            label_logit = masked;
            teacher_label_logit = masked;
        }
#end
    }
#if listed
    let list_is_valid = read_list(row, invocation, !ignored);
#end
#if sampled
    // The only number of the teacher. It may be `-inf`.
    if (!ignored) {
        teacher_label_logit = bitcast<u32>(load_teacher_at(row.teacher, 0u));
    }
#end
    if (IN_PLACE) {
        // The reduction's barriers order workgroup memory only.
        storageBarrier();
    }
#if standardized
    let spreads = spreads_of(row, invocation);
    set_deviations(spreads.student.deviation, spreads.teacher.deviation);
#end
#if listed
    let rest = reduce_sums(observe_row(row, invocation), invocation);
    var sums = in_nats(rest);
    if (row_is_complete()) {
        sums = in_nats(with_list(row, invocation, rest, list_is_valid, !ignored));
    }
#end
#if row_whole
    var sums = in_nats(reduce_sums(observe_row(row, invocation), invocation));
#end
#if label_apart
    var observed = row;
    observed.label = select(0xffffffffu, u32(label), is_class);
    let rest = reduce_sums(observe_row(observed, invocation), invocation);
    var sums = in_nats(rest);
    if (row_is_complete()) {
        sums = in_nats(with_label(rest, label_logit, teacher_label_logit));
    }
#end
    sums.flags |= select(INVALID_LABEL, 0u, is_class);
    sums.flags |= select(0u, SOFT_LABEL, SOFT_LABELS);
#if sampled
    let usable = logit_is_finite(teacher_label_logit) || teacher_label_logit == 0xff800000u;
    sums.flags |= select(NON_FINITE, TEACHER_LIVE, usable);
#end
    let weighable = (weight & 0x7fffffffu) < 0x7f800000u;
    sums.flags |= select(NON_FINITE, 0u, weighable);
#if label_weighted
    let label_weight = class_weight_bits(u32(label)).x;
    sums.flags |= select(0u, NON_FINITE, any(are_refused(vec4<u32>(label_weight))));
#end
    if (ignored) {
        sums.flags = IGNORED;
    }
    var sweep_sums = vec3<f32>();
    if (SECOND_SWEEP && row_is_complete()) {
#if listed
        sweep_sums = reduce_sweep_sums(sweep_list(row, invocation, sums, !ignored), invocation);
#end
#if row_whole
        sweep_sums = reduce_sweep_sums(second_sweep(row, invocation, sums), invocation);
#end
#if label_apart
        sweep_sums = reduce_sweep_sums(second_sweep(observed, invocation, sums), invocation);
#end
    }
    let row_weight = bitcast<f32>(select(0u, weight, weighable));
    var stats = stats_from(sums, label, label_logit, teacher_label_logit, row_weight);
#if label_weighted
    stats.class_weight = bitcast<f32>(label_weight);
#end
#if standardized
    if (!ignored) {
        stats.student_deviation = spreads.student.deviation;
        stats.teacher_deviation = spreads.teacher.deviation;
        stats.student_count = spreads.student.count;
        let mean = (spreads.student.origin - sums.student_max) + spreads.student.mean;
        stats.student_offset = spreads.student.count * (mean * student_inverse());
    }
#end
    if (!row_is_complete()) {
        return stats;
    }
#if label_apart
    return with_rest(complete_stats(stats, sums, sweep_sums), in_nats(rest));
#end
#if listed
    return with_tail(complete_stats(stats, sums, sweep_sums));
#end
#if row_whole
    return complete_stats(stats, sums, sweep_sums);
#end
}

#if sharded
// The statistics of a slice's row, whose label was observed as a column.
fn shard_stats(stats: RowStats, label: i32) -> RowStats {
    var y = stats;
    y.label = label;
    y.first_class = params.first_class;
    y.shard_classes = params.classes;
    y.all_classes = params.all_classes;
    let elsewhere = (y.flags & INVALID_LABEL) != 0u;
    y.flags = (y.flags & ~INVALID_LABEL) | SHARD | select(0u, LABEL_ELSEWHERE, elsewhere);
    return y;
}
#end
