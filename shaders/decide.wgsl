// decide: TSSR, loss and gradient coefficients of each row, from its statistics.
//
//   tssr = selection(tstr, kdr), loss = tssr * hard + (1 - tssr) * soft, each with its weight
//   hard = ln zs - (s_label - ms), soft: the divergence's, from the moments of the row
//
// zs: the sum of e^(s - ms). The coefficients are those of `apply`.
// row_stats, decisions, row_results or row_metrics: [rows]. `stats_summary` is the summary of `row_stats`: `Batch` scope takes the
// mean KDR from it, and `Mean` the number of rows. One invocation owns a row and reads its statistics once. f32.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read> row_stats: array<RowStats>;  // [rows]
@group(0) @binding(6) var<storage, read_write> partials: array<PartialSummary>;  // [workgroups]
@group(0) @binding(7) var<storage, read> stats_summary: Summary;
@group(0) @binding(8) var<storage, read_write> decisions: array<Decision>;  // [rows]
#if results_alone
@group(0) @binding(9) var<storage, read_write> row_results: array<RowResult>;  // [rows], if requested
#end
#if metrics
@group(0) @binding(9) var<storage, read_write> row_metrics: array<RowReport>;  // [rows]
#end

#import params
#import types
#import invocation
#import decide
#if metrics
#import report
#end
#import partial
#import accumulator
#import main

fn kernel(workgroup: u32, invocation: Invocation) {
    var denominator = params.denominator;
    if (params.counts_rows != 0u) {
        denominator = f32(max(stats_summary.valid_rows, 1u));
    }
    var accumulator: SummaryAccumulator;
    for (var group = workgroup; group * ROWS_PER_WORKGROUP < params.rows; group += params.workgroups) {
        let index = group * ROWS_PER_WORKGROUP + invocation.row;
        if (index < params.rows) {
            let stats = row_stats[index];
            var kdr = bitcast<f32>(stats.kdr);
            if (params.scope == SCOPE_BATCH) {
                kdr = stats_summary.kdr;
            } else if (params.scope == SCOPE_GIVEN) {
                kdr = params.given_kdr;
            }
            let decision = decide(stats, kdr, denominator);
            decisions[params.decision_offset + index] = decision;
#if results_alone
            if (params.write_results != 0u) {
                row_results[params.result_offset + index] = decision.result;
            }
            add_row(&accumulator, partial_of(decision.result, denominator));
#end
#if metrics
            let metrics = metrics_of(stats, decision.result);
            add_row(&accumulator, with_metrics(partial_of(decision.result, denominator), metrics));
            row_metrics[params.result_offset + index] = report_of(decision.result, metrics);
#end
        }
    }
    let sum = reduce_accumulators(accumulator, invocation);
    if (invocation.row == 0u && invocation.lane == 0u) {
        partials[params.partial_offset + workgroup] = sum;
    }
}
