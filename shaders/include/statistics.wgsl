// RowStats of a row, or of a segment of one: sums over its lanes, label, flags, and for a whole row its KDR.

#import types
#import sums
#import similarity
#import complete
#import observe
#import sweep
#import sweep_kept
#import $REDUCE

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
    var label_logit = 0u;
    // Read before the reduction: after it, a fast lane may already overwrite the student's logits with the gradient.
    if (is_class && !ignored) {
        label_logit = bitcast<u32>(load_student_at(row.student, u32(label)));
    }
    if (IN_PLACE) {
        // The reduction's barriers order workgroup memory only.
        storageBarrier();
    }
    var sums = in_nats(reduce_sums(observe_row(row, invocation), invocation));
    sums.flags |= select(INVALID_LABEL, 0u, is_class);
    let weighable = (weight & 0x7fffffffu) < 0x7f800000u;
    sums.flags |= select(NON_FINITE, 0u, weighable);
    if (ignored) {
        sums.flags = IGNORED;
    }
    var sweep_sums = vec3<f32>();
    if (SECOND_SWEEP && params.segments == 1u) {
        sweep_sums = reduce_sweep_sums(second_sweep(row, invocation, sums), invocation);
    }
    let row_weight = bitcast<f32>(select(0u, weight, weighable));
    let stats = stats_from(sums, label, label_logit, row_weight);
    if (params.segments > 1u) {
        return stats;
    }
    return complete_stats(stats, sums, sweep_sums);
}
