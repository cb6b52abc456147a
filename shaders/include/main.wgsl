// The entry point of kernels without reductions over lanes.

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    kernel(workgroup.x, Invocation(index / LANES, index % LANES, index));
}
