// summary: loss, mean KDR, mean TSSR and counts of the batch, from the partial summaries of workgroups.
//
//   loss = sum of the partials' losses (row losses over the denominator); kdr, tssr = means over the rows that are valid and finite
//
// partials: [partials]; summary: one. One workgroup owns the batch and reads each partial once: every invocation adds a fixed set of them,
// then a tree adds the sums. f32. Counts decide that the loss is NaN (a row without a finite result, unless such rows are left out) or infinite (a row of infinite loss).

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(6) var<storage, read> partials: array<PartialSummary>;  // [partials]
@group(0) @binding(7) var<storage, read_write> summary: Summary;

#import params
#import types
#import invocation
#import partial
#import main
#if metrics
#import metric_bits
#end

// Partials that the workgroup adds at a time, eight an invocation.
const BLOCK: u32 = 8u * WORKGROUP_SIZE;

// The sum of four partials, whose loads hide each other's latency.
fn four_partials(first: u32) -> PartialSummary {
    return add_partials(
        add_partials(partials[first], partials[first + WORKGROUP_SIZE]),
        add_partials(partials[first + 2u * WORKGROUP_SIZE], partials[first + 3u * WORKGROUP_SIZE]),
    );
}

fn kernel(workgroup: u32, invocation: Invocation) {
    var sum: PartialSummary;
    let whole = params.partials / BLOCK * BLOCK;
    for (var i = invocation.index; i < whole; i += BLOCK) {
        sum = add_partials(sum, add_partials(four_partials(i), four_partials(i + 4u * WORKGROUP_SIZE)));
    }
    for (var i = whole + invocation.index; i < params.partials; i += WORKGROUP_SIZE) {
        sum = add_partials(sum, partials[i]);
    }
    let all = reduce_partials(sum, invocation);
    if (invocation.index != 0u) {
        return;
    }
    var loss = bitcast<u32>(all.loss);
    if (all.infinite_losses > 0u) {
        loss = params.infinity_bits;
    }
    if (all.negative_infinities > 0u) {
        loss = select(params.infinity_bits | 0x80000000u, params.nan_bits, all.infinite_losses > 0u);
    }
    if (all.invalid_labels > 0u || (all.non_finite_rows > 0u && params.skip_non_finite == 0u)) {
        loss = params.nan_bits;
    }
    let averaged = f32(max(all.averaged_rows, 1u));
    // Clamped: the quotient may be off in its last places, but the mean of n rows of 1 must not exceed 1.
    summary = Summary(
        loss,
        min(all.kdr / averaged, 1.0),
        min(all.tssr / averaged, 1.0),
        all.valid_rows,
        all.ignored_rows,
        all.invalid_labels,
        all.non_finite_rows,
        0u,
#if results_alone
        vec4<u32>(), vec4<u32>(), vec4<u32>(),
#end
#if metrics
        first_bits(all.first / averaged, all.unbounded),
        second_bits(min(all.second / averaged, vec4<f32>(3.4028234e38, 3.4028234e38, 3.4028234e38, 1.0)), all.unbounded),
        third_bits(min(all.third / averaged, vec4<f32>(1.0)), all.unbounded),
#end
    );
}
