// merge_row_stats: a row's statistics from those of its pieces, and the similarity of its two distributions (KDR).
//
//   ms = max of the pieces' ms, every sum rescaled to it and added: the merge of the monoid in include/sums.wgsl
//
// piece_stats: [rows, pieces]; swept: [rows, pieces], what `row_similarity` left, for similarities with a second sweep; row_stats: [rows].
// LANES invocations own a row and read each of its pieces once. Sums are f32, merged in a fixed order.

#import params
#import types
#import sums
#import place
#import similarity
#import complete
#import merge
#import partial
#import store_none
#import $REDUCE

@group(0) @binding(5) var<storage, read> piece_stats: array<RowStats>;  // [rows, pieces]
@group(0) @binding(6) var<storage, read_write> partials: array<Partial>;  // [workgroups], KDR alone is summed
@group(0) @binding(7) var<storage, read> swept: array<f32>;  // [rows, pieces]
@group(0) @binding(8) var<storage, read_write> row_stats: array<RowStats>;  // [rows]

fn kernel(workgroup: u32, place: Place) {
    var tally: Tally;
    for (var block = workgroup; block * ROWS_PER_WORKGROUP < params.rows; block += params.workgroups) {
        let index = block * ROWS_PER_WORKGROUP + place.row;
        let exists = index < params.rows;
        let at = min(index, params.rows - 1u);
        let sums = in_nats(merge_pieces(at, place));
        var all = 0.0;
        if (SECOND_SWEEP) {
            for (var i = place.lane; i < params.pieces; i += LANES) {
                all += swept[at * params.pieces + i];
            }
            all = reduce_add(all, place);
        }
        let first = piece_stats[at * params.pieces];
        let stats = complete_stats(stats_from(sums, first.label, first.label_logit), sums, all);
        if (exists && place.lane == 0u) {
            row_stats[params.stats_offset + index] = stats;
            tally_up(&tally, partial_of(RowResult(0u, stats.kdr, 0u, stats.flags), 1.0));
        }
    }
    let sum = reduce_tallies(tally, place);
    if (place.index == 0u) {
        partials[params.partial_offset + workgroup] = sum;
    }
}
