// The summary of the rows that one invocation owns. Two-level summation bounds the rounding error: ROWS_PER_PARTIAL_SUM rows are summed
// before they are added to the total.

struct SummaryAccumulator {
    total: PartialSummary,
    rows: u32,
    // Sums over the rows that `total` does not include yet.
    loss: f32,
    kdr: f32,
    tssr: f32,
#if metrics
    first: vec4<f32>,
    second: vec4<f32>,
    third: vec4<f32>,
#end
}

const ROWS_PER_PARTIAL_SUM: u32 = 64u;

fn add_partial_sums(accumulator: ptr<function, SummaryAccumulator>) {
    (*accumulator).total.loss += (*accumulator).loss;
    (*accumulator).total.kdr += (*accumulator).kdr;
    (*accumulator).total.tssr += (*accumulator).tssr;
    (*accumulator).loss = 0.0;
    (*accumulator).kdr = 0.0;
    (*accumulator).tssr = 0.0;
#if metrics
    (*accumulator).total.first += (*accumulator).first;
    (*accumulator).total.second += (*accumulator).second;
    (*accumulator).total.third += (*accumulator).third;
    (*accumulator).first = vec4<f32>();
    (*accumulator).second = vec4<f32>();
    (*accumulator).third = vec4<f32>();
#end
}

fn add_row(accumulator: ptr<function, SummaryAccumulator>, row: PartialSummary) {
    var counts = row;
    counts.loss = 0.0;
    counts.kdr = 0.0;
    counts.tssr = 0.0;
#if metrics
    counts.first = vec4<f32>();
    counts.second = vec4<f32>();
    counts.third = vec4<f32>();
    (*accumulator).first += row.first;
    (*accumulator).second += row.second;
    (*accumulator).third += row.third;
#end
    (*accumulator).total = add_partials((*accumulator).total, counts);
    (*accumulator).loss += row.loss;
    (*accumulator).kdr += row.kdr;
    (*accumulator).tssr += row.tssr;
    (*accumulator).rows += 1u;
    if ((*accumulator).rows % ROWS_PER_PARTIAL_SUM == 0u) {
        add_partial_sums(accumulator);
    }
}

// The summary of one row. Its loss is divided before the sum, so that large losses do not overflow if their mean does not.
fn partial_of(result: RowResult, denominator: f32) -> PartialSummary {
    let ignored = (result.flags & IGNORED) != 0u;
    let invalid = (result.flags & INVALID_LABEL) != 0u;
    let non_finite = (result.flags & (NON_FINITE | SKIPPED)) != 0u;
    let averaged = !ignored && !invalid && !non_finite;
    let infinite = averaged && result.loss == params.infinity_bits;
    let negative = averaged && result.loss == (params.infinity_bits | 0x80000000u);
    let zero = vec3<f32>();
#if metrics
    let zero4 = vec4<f32>();
#end
    let values = bitcast<vec3<f32>>(vec3<u32>(select(result.loss, 0u, infinite || negative), result.kdr, result.tssr));
    let v = select(zero, values, averaged);
    return PartialSummary(
        v.x / denominator, v.y, v.z,
        u32(averaged),
        u32(!ignored && !invalid),
        u32(ignored),
        u32(invalid),
        u32(non_finite),
        u32(infinite),
        u32(negative),
        0u, 0u,
#if metrics
        zero4, zero4, zero4,
#end
    );
}

// Must be called in uniform control flow, by all invocations. Only the accumulator of lane 0 of each row is used.
fn reduce_accumulators(accumulator: SummaryAccumulator, invocation: Invocation) -> PartialSummary {
    var complete = accumulator;
    add_partial_sums(&complete);
    return reduce_partials(complete.total, invocation);
}
