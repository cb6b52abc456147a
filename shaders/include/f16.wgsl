// Two IEEE binary16 in a word, the lower half first. Conversion needs no device feature.

// Integer arithmetic: `unpack2x16float` may flush subnormals to 0, and need not keep infinities and NaN.
fn unpack_f16(word: u32) -> vec2<f32> {
    let halves = vec2<u32>(word & 0xffffu, word >> 16u);
    let magnitude = (halves & vec2<u32>(0x7fffu)) << vec2<u32>(13u);
    // The exponent biases differ by 112. A subnormal takes the exponent of 2^-14, and 2^-14 is subtracted again: all are normal f32 numbers.
    let normal = magnitude + vec2<u32>(112u << 23u);
    let subnormal = bitcast<vec2<u32>>(bitcast<vec2<f32>>(magnitude + vec2<u32>(113u << 23u)) - bitcast<f32>(113u << 23u));
    let special = magnitude | vec2<u32>(0x7f800000u);
    var wide = select(normal, subnormal, magnitude < vec2<u32>(1u << 23u));
    wide = select(wide, special, magnitude >= vec2<u32>(0x0f800000u));
    return bitcast<vec2<f32>>(wide | ((halves & vec2<u32>(0x8000u)) << vec2<u32>(16u)));
}

// Rounds to nearest, ties to even. Overflow becomes infinity, NaN stays NaN, subnormals are kept.
fn pack_f16(bits: u32) -> u32 {
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return sign | 0x7e00u;
    }
    if (magnitude >= 0x477ff000u) {
        return sign | 0x7c00u;
    }
    if (magnitude < 0x38800000u) {
        // Subnormal: the result is a multiple of 2^-24.
        let exponent = magnitude >> 23u;
        let mantissa = (magnitude & 0x007fffffu) | select(0u, 0x00800000u, exponent > 0u);
        let shift = min(126u - exponent, 31u);
        let kept = mantissa >> shift;
        let rest = mantissa & ((1u << shift) - 1u);
        let half = 1u << (shift - 1u);
        let up = rest > half || (rest == half && (kept & 1u) == 1u);
        return sign | (kept + select(0u, 1u, up));
    }
    let rebased = magnitude - 0x38000000u;
    return sign | ((rebased + 0x0fffu + ((rebased >> 13u) & 1u)) >> 13u);
}
