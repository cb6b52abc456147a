// How the lanes of a row meet: a tree in workgroup memory, for any device.

var<workgroup> shared_sums: array<Sums, WORKGROUP_SIZE>;
var<workgroup> shared_f32: array<f32, WORKGROUP_SIZE>;

fn place_of(index: u32) -> Place {
    return Place(index / LANES, index % LANES, index);
}

// Every lane of a row gets the merged sums of all. Must be called in uniform control flow.
fn reduce_sums(x: Sums, place: Place) -> Sums {
    if (LANES == 1u) {
        return x;
    }
    shared_sums[place.index] = x;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (place.lane < half) {
            shared_sums[place.index] = combine_sums(shared_sums[place.index], shared_sums[place.index + half]);
        }
        workgroupBarrier();
    }
    let merged = shared_sums[place.index - place.lane];
    // Without it a fast lane could overwrite what a slow one still reads.
    workgroupBarrier();
    return merged;
}

// Every lane of a row gets the sum of all. Must be called in uniform control flow.
fn reduce_add(x: f32, place: Place) -> f32 {
    if (LANES == 1u) {
        return x;
    }
    shared_f32[place.index] = x;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (place.lane < half) {
            shared_f32[place.index] += shared_f32[place.index + half];
        }
        workgroupBarrier();
    }
    let sum = shared_f32[place.index - place.lane];
    workgroupBarrier();
    return sum;
}

// Every lane of a row gets the largest of all. Must be called in uniform control flow.
fn reduce_max(x: f32, place: Place) -> f32 {
    if (LANES == 1u) {
        return x;
    }
    shared_f32[place.index] = x;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (place.lane < half) {
            shared_f32[place.index] = max(shared_f32[place.index], shared_f32[place.index + half]);
        }
        workgroupBarrier();
    }
    let largest = shared_f32[place.index - place.lane];
    workgroupBarrier();
    return largest;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    kernel(workgroup.x, place_of(index));
}
