// The sum of what is there and what is new, as bits. A NaN that is new stays one: arithmetic is not trusted to carry it.
fn accumulate_bits(old: vec4<f32>, value: vec4<u32>) -> vec4<u32> {
    let nan = (value & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    return select(bitcast<vec4<u32>>(old + bitcast<vec4<f32>>(value)), value, nan);
}
