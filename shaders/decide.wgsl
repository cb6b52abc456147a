// decide: From each row's statistics to TSSR, loss and the coefficients of its gradient.
//
//   tssr = selection(tstr, kdr), loss = tssr * hard + (1 - tssr) * soft
//   hard = ln zs - (s_label - ms), soft = ln zs + (A - B) / zt
//
// row_stats: [rows]; decisions: [rows]. One invocation owns a row and reads its statistics once.
// `Batch` scope takes the mean KDR, and a mean's denominator the count of rows, from `stats_summary`, the summary of `row_stats`.

#import params
#import types
#import invocation
#import decide
#import partial
#import store_none
#import main

@group(0) @binding(5) var<storage, read> row_stats: array<RowStats>;  // [rows]
@group(0) @binding(6) var<storage, read_write> partials: array<PartialSummary>;  // [workgroups]
@group(0) @binding(7) var<storage, read> stats_summary: Summary;
@group(0) @binding(8) var<storage, read_write> decisions: array<Decision>;  // [rows]
@group(0) @binding(9) var<storage, read_write> row_results: array<RowResult>;  // [rows], if asked for

fn kernel(workgroup: u32, invocation: Invocation) {
    var denominator = params.denominator;
    if (params.counts_rows != 0u) {
        denominator = f32(max(stats_summary.valid_rows, 1u));
    }
    var tally: SummaryAccumulator;
    for (var block = workgroup; block * ROWS_PER_WORKGROUP < params.rows; block += params.workgroups) {
        let index = block * ROWS_PER_WORKGROUP + invocation.row;
        if (index < params.rows) {
            let stats = row_stats[params.stats_offset + index];
            var kdr = bitcast<f32>(stats.kdr);
            if (params.scope == SCOPE_BATCH) {
                kdr = stats_summary.kdr;
            } else if (params.scope == SCOPE_GIVEN) {
                kdr = params.given_kdr;
            }
            let decision = decide(stats, kdr, denominator);
            decisions[params.decision_offset + index] = decision;
            if (params.write_results != 0u) {
                row_results[params.result_offset + index] = decision.result;
            }
            tally_up(&tally, partial_of(decision.result, denominator));
        }
    }
    let sum = reduce_tallies(tally, invocation);
    if (invocation.index == 0u) {
        partials[params.partial_offset + workgroup] = sum;
    }
}
