// The partial summary of a workgroup: a tree over its rows, in a fixed order.

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
        x.negative_infinities + y.negative_infinities,
        x.unbounded | y.unbounded,
        0u,
#if metrics
        x.first + y.first,
        x.second + y.second,
        x.third + y.third,
#end
    );
}

// Returns the workgroup's sum, to lane 0 of row 0. Must be called in uniform control flow, by all invocations. Only the partial summary of
// lane 0 of each row is used.
fn reduce_partials(partial: PartialSummary, invocation: Invocation) -> PartialSummary {
    if (ROWS_PER_WORKGROUP == 1u) {
        return partial;
    }
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
