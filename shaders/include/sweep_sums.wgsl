// The sums of the second sweep over a row. Components: the similarity's sum, the divergence's first and second sum.

const SECOND_SWEEP: bool = SWEEPS_SIMILARITY || SWEEP_FIRST != SWEEP_NONE;

// Returns the sums over all lanes to each lane of a row. Must be called in uniform control flow.
fn reduce_sweep_sums(sums: vec3<f32>, invocation: Invocation) -> vec3<f32> {
    var reduced = vec3<f32>();
    if (SWEEPS_SIMILARITY) {
        reduced.x = reduce_add(sums.x, invocation);
    }
    if (SWEEP_FIRST != SWEEP_NONE) {
        reduced.y = reduce_add(sums.y, invocation);
        reduced.z = reduce_add(sums.z, invocation);
    }
    return reduced;
}
