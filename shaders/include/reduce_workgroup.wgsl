// Reductions over the lanes of a row: a tree in workgroup memory, for any device.

var<workgroup> shared_sums: array<Sums, WORKGROUP_SIZE>;
var<workgroup> shared_f32: array<f32, WORKGROUP_SIZE>;

// Returns the merged sums of all lanes to each lane of a row. Must be called in uniform control flow.
fn reduce_sums(x: Sums, invocation: Invocation) -> Sums {
    if (LANES == 1u) {
        return x;
    }
    shared_sums[invocation.index] = x;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (invocation.lane < half) {
            shared_sums[invocation.index] = combine_sums(shared_sums[invocation.index], shared_sums[invocation.index + half]);
        }
        workgroupBarrier();
    }
    let merged = shared_sums[invocation.index - invocation.lane];
    // A fast lane must not overwrite what a slow one still reads.
    workgroupBarrier();
    return merged;
}

// Returns the sum over all lanes to each lane of a row. Must be called in uniform control flow.
fn reduce_add(x: f32, invocation: Invocation) -> f32 {
    if (LANES == 1u) {
        return x;
    }
    shared_f32[invocation.index] = x;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (invocation.lane < half) {
            shared_f32[invocation.index] += shared_f32[invocation.index + half];
        }
        workgroupBarrier();
    }
    let sum = shared_f32[invocation.index - invocation.lane];
    workgroupBarrier();
    return sum;
}

// Returns the maximum over all lanes to each lane of a row. Must be called in uniform control flow.
fn reduce_max(x: f32, invocation: Invocation) -> f32 {
    if (LANES == 1u) {
        return x;
    }
    shared_f32[invocation.index] = x;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (invocation.lane < half) {
            shared_f32[invocation.index] = max(shared_f32[invocation.index], shared_f32[invocation.index + half]);
        }
        workgroupBarrier();
    }
    let largest = shared_f32[invocation.index - invocation.lane];
    workgroupBarrier();
    return largest;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    kernel(workgroup.x, Invocation(index / LANES, index % LANES, index));
}
