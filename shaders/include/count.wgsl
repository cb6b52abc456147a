// The denominator of losses and gradients.

var<workgroup> shared_count: atomic<u32>;

fn is_valid(label: i32) -> bool {
    return label != params.ignore_index && label >= 0 && u32(label) < params.label_classes;
}

// Must be called in uniform control flow. Every workgroup counts the labels of a small batch itself, which saves a dispatch. Counts are
// integers, so the order does not matter.
fn row_denominator(invocation: Invocation) -> f32 {
    if (params.counts_rows == 0u) {
        return params.denominator;
    }
    if (params.count_labels == 0u) {
        return f32(max(valid_rows[0], 1u));
    }
    if (invocation.index == 0u) {
        atomicStore(&shared_count, 0u);
    }
    workgroupBarrier();
    var count = 0u;
    for (var i = invocation.index; i < params.count_labels; i += WORKGROUP_SIZE) {
        count += u32(is_valid(labels[params.label_offset + i]));
    }
    atomicAdd(&shared_count, count);
    workgroupBarrier();
    return f32(max(atomicLoad(&shared_count), 1u));
}
