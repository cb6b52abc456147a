// Gradient rows of 16-bit numbers that start at multiples of 8 bytes, stored 8 bytes at a time.

#import accumulate
#import aligned
#import HALF

// Stores columns first .. first + 3, those that exist, given as bits of f32.
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
    // The columns beyond the row's end are the caller's padding and stay as they are. They belong to no other row.
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
