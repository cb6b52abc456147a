// Valid labels, and their count over a workgroup. Counts are integers, so the order does not matter.

#import labels

var<workgroup> shared_count: atomic<u32>;

// 1 if the label of a row is a class and not ignore_index, else 0.
fn valid_at(row: u32) -> u32 {
    let label = label_at(row);
    return u32(label != params.ignore_index && label >= 0 && u32(label) < params.label_classes);
}

// Precedes `sum_of_counts`. Both must be called in uniform control flow.
fn start_count(invocation: Invocation) {
    if (invocation.index == 0u) {
        atomicStore(&shared_count, 0u);
    }
    workgroupBarrier();
}

// Returns the sum over the workgroup's invocations to each of them.
fn sum_of_counts(count: u32) -> u32 {
    atomicAdd(&shared_count, count);
    workgroupBarrier();
    return atomicLoad(&shared_count);
}
