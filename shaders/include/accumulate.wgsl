// The bits of old + value. A NaN in `value` is kept by its bits, because a compiler may assume that arithmetic is finite.
fn accumulate_bits(old: vec4<f32>, value: vec4<u32>) -> vec4<u32> {
    let nan = (value & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    return select(bitcast<vec4<u32>>(old + bitcast<vec4<f32>>(value)), value, nan);
}
