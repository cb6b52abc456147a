// The gradient as rows of 16-bit numbers that start at multiples of 8 bytes.

#import accumulate

#import HALF

// How many columns of the row before it share a word with a row's first: none.
fn grad_head(base: u32) -> u32 {
    return 0u;
}

// Columns first .. first + 3, those that exist, given as bits of f32.
fn store_grad(base: u32, first: u32, value: vec4<u32>) {
    let at = (base + first) >> 2u;
    var bits = value;
    if (ACCUMULATE) {
        let old = grad_student_logits[at];
        bits = accumulate_bits(vec4<f32>(unpack_HALF(old.x), unpack_HALF(old.y)), value);
    }
    let low = pack_HALF(bits.x) | (pack_HALF(bits.y) << 16u);
    let high = pack_HALF(bits.z) | (pack_HALF(bits.w) << 16u);
    if (first + 4u <= params.classes) {
        grad_student_logits[at] = vec2<u32>(low, high);
        return;
    }
    // The columns beyond are padding of the caller's, and no other row's: kept as they were.
    let columns = params.classes - first;
    let old = grad_student_logits[at];
    if (columns == 1u) {
        grad_student_logits[at].x = (low & 0xffffu) | (old.x & 0xffff0000u);
        return;
    }
    grad_student_logits[at].x = low;
    if (columns == 3u) {
        grad_student_logits[at].y = (high & 0xffffu) | (old.y & 0xffff0000u);
    }
}
