// Metrics that are infinite or undefined: their bits in `unbounded`, and the metrics as bits.

const UNBOUNDED_KL: u32 = 1u;
const UNBOUNDED_TEACHER: u32 = 2u;
const UNBOUNDED_HARD: u32 = 4u;
const UNBOUNDED_SOFT: u32 = 8u;
#if sampled
// The metrics of the teacher's row are undefined.
const WITHOUT_TEACHER: u32 = 16u;
#end

// The bits of the first metrics, with infinities and NaN.
fn first_bits(first: vec4<f32>, unbounded: u32) -> vec4<u32> {
    let infinity = params.infinity_bits;
#if teacher_row
    let bits = vec4<u32>(UNBOUNDED_KL, UNBOUNDED_TEACHER, 0u, UNBOUNDED_HARD);
    let values = vec4<u32>(infinity, params.nan_bits, 0u, infinity);
#end
#if sampled
    let bits = vec4<u32>(WITHOUT_TEACHER, WITHOUT_TEACHER, 0u, UNBOUNDED_HARD);
    let values = vec4<u32>(params.nan_bits, params.nan_bits, 0u, infinity);
#end
    let beyond = (vec4<u32>(unbounded) & bits) != vec4<u32>();
    return select(bitcast<vec4<u32>>(first), values, beyond);
}

fn second_bits(second: vec4<f32>, unbounded: u32) -> vec4<u32> {
    let infinite = (unbounded & UNBOUNDED_SOFT) != 0u;
#if teacher_row
    let beyond = vec4<bool>(infinite, false, false, false);
    let values = vec4<u32>(params.infinity_bits);
#end
#if sampled
    let unknown = (unbounded & WITHOUT_TEACHER) != 0u;
    let beyond = vec4<bool>(infinite, false, unknown, unknown);
    let values = vec4<u32>(params.infinity_bits, 0u, params.nan_bits, params.nan_bits);
#end
    return select(bitcast<vec4<u32>>(second), values, beyond);
}

fn third_bits(third: vec4<f32>, unbounded: u32) -> vec4<u32> {
    var bits = bitcast<vec4<u32>>(third);
#if sampled
    bits.y = select(bits.y, params.nan_bits, (unbounded & WITHOUT_TEACHER) != 0u);
#end
    return bits;
}
