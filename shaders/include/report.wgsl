// The row's item of `row_metrics`, and its part of the partial summary.

#import metrics

fn report_of(result: RowResult, metrics: Metrics) -> RowReport {
    let nan = vec4<u32>(params.nan_bits);
    if ((result.flags & (IGNORED | SKIPPED)) == 0u && (result.flags & (INVALID_LABEL | NON_FINITE)) != 0u) {
        return RowReport(result, nan, nan, vec4<u32>(nan.xy, 0u, 0u));
    }
    return RowReport(
        result,
        first_bits(metrics.first, metrics.unbounded),
        second_bits(metrics.second, metrics.unbounded),
        third_bits(metrics.third, metrics.unbounded),
    );
}

fn with_metrics(partial: PartialSummary, metrics: Metrics) -> PartialSummary {
    var y = partial;
    y.first = metrics.first;
    y.second = metrics.second;
    y.third = metrics.third;
    y.unbounded = metrics.unbounded;
    return y;
}
