// summary: the batch's loss, mean KDR, mean TSSR and counts from what the workgroups left.
//
//   loss = sum of what the partials hold, row losses over the denominator; kdr, tssr = means over the rows that are valid and finite
//
// partials: [partials]; summary: one. One workgroup; every invocation adds a fixed set of partials, then a tree. f32.
// A row without a finite answer makes the loss NaN, a row of infinite loss makes it infinite: by counts, not by arithmetic.

#import params
#import types
#import invocation
#import store_none
#import partial
#import main

@group(0) @binding(6) var<storage, read> partials: array<PartialSummary>;  // [partials]
@group(0) @binding(7) var<storage, read_write> summary: Summary;

fn kernel(workgroup: u32, invocation: Invocation) {
    var sum: PartialSummary;
    for (var i = invocation.index; i < params.partials; i += WORKGROUP_SIZE) {
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
    if (all.invalid_labels + all.non_finite_rows > 0u) {
        loss = params.nan_bits;
    }
    let averaged = f32(max(all.averaged_rows, 1u));
    // A quotient may be off by its last places: n rows of 1 have a mean of 1, not more.
    summary = Summary(
        loss,
        min(all.kdr / averaged, 1.0),
        min(all.tssr / averaged, 1.0),
        all.valid_rows,
        all.ignored_rows,
        all.invalid_labels,
        all.non_finite_rows,
        0u,
    );
}
