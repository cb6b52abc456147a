// merge_row_stats: the statistics of each row from those of its segments, and the similarity of its two distributions (KDR).
//
//   ms = max of the segments' ms; every sum is rescaled to it and added: the merge of the monoid in include/sums.wgsl
//
// segment_stats, sweep_sums: [rows, segments]; row_stats: [rows]. sweep_sums: from `second_sweep`, if similarity or divergence need it.
// LANES invocations own a row and read each of its segments once. Sums are f32, merged in a fixed order.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read> segment_stats: array<RowStats>;  // [rows, segments]
@group(0) @binding(6) var<storage, read_write> partials: array<PartialSummary>;  // [workgroups], KDR and counts
@group(0) @binding(7) var<storage, read> sweep_sums: array<vec4<f32>>;  // [rows, segments]
@group(0) @binding(8) var<storage, read_write> row_stats: array<RowStats>;  // [rows]

#import params
#import types
#import sums
#import invocation
#if teacher_row
#import similarity
#end
#import sweep_sums
#import complete
#import label_apart
#import merge
#import partial
#import accumulator
#import $REDUCE

fn kernel(workgroup: u32, invocation: Invocation) {
    var accumulator: SummaryAccumulator;
    for (var group = workgroup; group * ROWS_PER_WORKGROUP < params.rows; group += params.workgroups) {
        let index = group * ROWS_PER_WORKGROUP + invocation.row;
        let exists = index < params.rows;
        let at = min(index, params.rows - 1u);
        let merged = merge_segments(at, invocation);
        let first = segment_stats[at * params.segments];
#if label_whole
        let sums = in_nats(merged);
#end
#if label_apart
        let sums = in_nats(with_label(merged, first.label_logit, first.teacher_label_logit));
#end
        var sweeps = vec3<f32>();
        if (SECOND_SWEEP) {
            for (var i = invocation.lane; i < params.segments; i += LANES) {
                sweeps += sweep_sums[at * params.segments + i].xyz;
            }
            sweeps = reduce_sweep_sums(sweeps, invocation);
        }
        var whole = stats_from(sums, first.label, first.label_logit, first.teacher_label_logit, first.weight);
#if label_weighted
        whole.class_weight = first.class_weight;
#end
#if label_whole
        let stats = complete_stats(whole, sums, sweeps);
#end
#if label_apart
        let stats = with_rest(complete_stats(whole, sums, sweeps), in_nats(merged));
#end
        if (exists && invocation.lane == 0u) {
            row_stats[index] = stats;
            add_row(&accumulator, partial_of(RowResult(0u, stats.kdr, 0u, stats.flags), 1.0));
        }
    }
    let sum = reduce_accumulators(accumulator, invocation);
    if (invocation.row == 0u && invocation.lane == 0u) {
        partials[params.partial_offset + workgroup] = sum;
    }
}
