// The denominator of losses and gradients.

#import valid

// Must be called in uniform control flow. Every workgroup counts the labels of a small batch itself, which saves a dispatch. In a large
// batch it adds the counts of `valid_rows`, which follow the partials of `distill`.
fn row_denominator(invocation: Invocation) -> f32 {
    if (params.counts_rows == 0u) {
        return params.denominator;
    }
    start_count(invocation);
    var count = 0u;
    for (var i = invocation.index; i < params.count_labels; i += WORKGROUP_SIZE) {
        count += valid_at(i);
    }
    for (var i = invocation.index; i < params.counts; i += WORKGROUP_SIZE) {
        count += partials[params.partials + i].valid_rows;
    }
    return f32(max(sum_of_counts(count), 1u));
}
