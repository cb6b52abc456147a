// Two bfloat16 in a word, the lower half first. A bfloat16 is the upper half of a binary32.

fn unpack_bf16(word: u32) -> vec2<f32> {
    return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
}

// Rounds to nearest, ties to even; NaN stays NaN. A NaN of the kernels' own, 0x7fc00000, does so without a test; a sum with the memory's
// contents may have other bits.
fn pack_bf16(bits: u32) -> u32 {
    if (ACCUMULATE && (bits & 0x7fffffffu) > 0x7f800000u) {
        return (bits >> 16u) | 0x0040u;
    }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
