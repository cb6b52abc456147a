// Metrics that are infinite or undefined: their bits in `unbounded`, and the metrics as bits.

const UNBOUNDED_KL: u32 = 1u;
const UNBOUNDED_TEACHER: u32 = 2u;
const UNBOUNDED_HARD: u32 = 4u;
const UNBOUNDED_SOFT: u32 = 8u;

// The bits of the first metrics, with infinities and NaN.
fn first_bits(first: vec4<f32>, unbounded: u32) -> vec4<u32> {
    let infinity = params.infinity_bits;
    let bits = vec4<u32>(UNBOUNDED_KL, UNBOUNDED_TEACHER, 0u, UNBOUNDED_HARD);
    let beyond = (vec4<u32>(unbounded) & bits) != vec4<u32>();
    return select(bitcast<vec4<u32>>(first), vec4<u32>(infinity, params.nan_bits, 0u, infinity), beyond);
}

fn second_bits(second: vec4<f32>, unbounded: u32) -> vec4<u32> {
    let beyond = vec4<bool>((unbounded & UNBOUNDED_SOFT) != 0u, false, false, false);
    return select(bitcast<vec4<u32>>(second), vec4<u32>(params.infinity_bits), beyond);
}
