// What a workgroup's rows add up to, in a fixed order: each row's first lane its own rows, then a tree over the workgroup.

var<workgroup> shared_partials: array<PartialSummary, ROWS_PER_WORKGROUP>;

fn add_partials(x: PartialSummary, y: PartialSummary) -> PartialSummary {
    return PartialSummary(
        x.loss + y.loss,
        x.kdr + y.kdr,
        x.tssr + y.tssr,
        x.averaged_rows + y.averaged_rows,
        x.valid_rows + y.valid_rows,
        x.ignored_rows + y.ignored_rows,
        x.invalid_labels + y.invalid_labels,
        x.non_finite_rows + y.non_finite_rows,
        x.infinite_losses + y.infinite_losses,
        0u, 0u, 0u,
    );
}

// What one invocation adds up, row after row. A sum of a million numbers would lose the digits of each: those of TOGETHER rows are
// added on their own first.
struct SummaryAccumulator {
    all: PartialSummary,
    rows: u32,
    loss: f32,
    kdr: f32,
    tssr: f32,
}

const TOGETHER: u32 = 64u;

fn settle(tally: ptr<function, SummaryAccumulator>) {
    (*tally).all.loss += (*tally).loss;
    (*tally).all.kdr += (*tally).kdr;
    (*tally).all.tssr += (*tally).tssr;
    (*tally).loss = 0.0;
    (*tally).kdr = 0.0;
    (*tally).tssr = 0.0;
}

fn tally_up(tally: ptr<function, SummaryAccumulator>, row: PartialSummary) {
    var counts = row;
    counts.loss = 0.0;
    counts.kdr = 0.0;
    counts.tssr = 0.0;
    (*tally).all = add_partials((*tally).all, counts);
    (*tally).loss += row.loss;
    (*tally).kdr += row.kdr;
    (*tally).tssr += row.tssr;
    (*tally).rows += 1u;
    if ((*tally).rows % TOGETHER == 0u) {
        settle(tally);
    }
}

// Losses are divided before they are summed: a sum of large ones must not overflow where their mean does not.
fn partial_of(result: RowResult, denominator: f32) -> PartialSummary {
    let ignored = (result.flags & IGNORED) != 0u;
    let invalid = (result.flags & INVALID_LABEL) != 0u;
    let non_finite = (result.flags & NON_FINITE) != 0u;
    let averaged = !ignored && !invalid && !non_finite;
    let infinite = averaged && result.loss == params.infinity_bits;
    let zero = vec3<f32>();
    let values = bitcast<vec3<f32>>(vec3<u32>(select(result.loss, 0u, infinite), result.kdr, result.tssr));
    let v = select(zero, values, averaged);
    return PartialSummary(
        v.x / denominator, v.y, v.z,
        u32(averaged),
        u32(!ignored && !invalid),
        u32(ignored),
        u32(invalid),
        u32(non_finite),
        u32(infinite),
        0u, 0u, 0u,
    );
}

// Must be called in uniform control flow, by all invocations; those that lead no row bring an empty one.
fn reduce_tallies(tally: SummaryAccumulator, invocation: Invocation) -> PartialSummary {
    var settled = tally;
    settle(&settled);
    return reduce_partials(settled.all, invocation);
}

fn reduce_partials(partial: PartialSummary, invocation: Invocation) -> PartialSummary {
    if (invocation.lane == 0u) {
        shared_partials[invocation.row] = partial;
    }
    workgroupBarrier();
    for (var half = ROWS_PER_WORKGROUP / 2u; half > 0u; half /= 2u) {
        if (invocation.index < half) {
            shared_partials[invocation.index] = add_partials(shared_partials[invocation.index], shared_partials[invocation.index + half]);
        }
        workgroupBarrier();
    }
    return shared_partials[0];
}
