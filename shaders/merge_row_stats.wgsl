// merge_row_stats: a row's statistics from those of its segments, and the similarity of its two distributions (KDR).
//
//   ms = max of the segments' ms, every sum rescaled to it and added: the merge of the monoid in include/sums.wgsl
//
// segment_stats: [rows, segments]; swept: [rows, segments], what `second_sweep` left, for similarities with a second sweep; row_stats: [rows].
// LANES invocations own a row and read each of its segments once. Sums are f32, merged in a fixed order.

#import params
#import types
#import sums
#import invocation
#import similarity
#import complete
#import merge
#import partial
#import store_none
#import $REDUCE

@group(0) @binding(5) var<storage, read> segment_stats: array<RowStats>;  // [rows, segments]
@group(0) @binding(6) var<storage, read_write> partials: array<PartialSummary>;  // [workgroups], KDR alone is summed
@group(0) @binding(7) var<storage, read> similarity_sums: array<f32>;  // [rows, segments]
@group(0) @binding(8) var<storage, read_write> row_stats: array<RowStats>;  // [rows]

fn kernel(workgroup: u32, invocation: Invocation) {
    var tally: SummaryAccumulator;
    for (var block = workgroup; block * ROWS_PER_WORKGROUP < params.rows; block += params.workgroups) {
        let index = block * ROWS_PER_WORKGROUP + invocation.row;
        let exists = index < params.rows;
        let at = min(index, params.rows - 1u);
        let sums = in_nats(merge_segments(at, invocation));
        var all = 0.0;
        if (SECOND_SWEEP) {
            for (var i = invocation.lane; i < params.segments; i += LANES) {
                all += similarity_sums[at * params.segments + i];
            }
            all = reduce_add(all, invocation);
        }
        let first = segment_stats[at * params.segments];
        let stats = complete_stats(stats_from(sums, first.label, first.label_logit), sums, all);
        if (exists && invocation.lane == 0u) {
            row_stats[params.stats_offset + index] = stats;
            tally_up(&tally, partial_of(RowResult(0u, stats.kdr, 0u, stats.flags), 1.0));
        }
    }
    let sum = reduce_tallies(tally, invocation);
    if (invocation.index == 0u) {
        partials[params.partial_offset + workgroup] = sum;
    }
}
