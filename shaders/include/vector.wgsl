// Functions of the numbers of four classes.

fn largest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.z), max(v.y, v.w));
}

fn magnitudes(v: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu);
}

fn is_finite(v: vec4<f32>) -> vec4<bool> {
    return magnitudes(v) < vec4<u32>(0x7f800000u);
}
