// Gradient rows of 16-bit numbers that start anywhere, stored one word at a time. A row's first and last column may share a word with
// another row that another workgroup writes. Atomics set each row's own half, so the result is the same in any order.

#import accumulate
#import HALF

// Columns of the previous row that share a word with the first column of the row that starts at element `base`.
fn grad_misalignment(base: u32) -> u32 {
    return base & 1u;
}

// Stores columns first .. first + 3, those that exist, given as bits of f32; base + first is even.
fn store_grad(base: u32, first: u32, value: vec4<u32>) {
    store_pair(base, first, value.xy);
    store_pair(base, first + 2u, value.zw);
}

fn store_pair(base: u32, first: u32, value: vec2<u32>) {
    let low = first < params.classes;
    let high = first + 1u < params.classes;
    if (!low && !high) {
        return;
    }
    let at = (base + first) >> 1u;
    var bits = value;
    if (ACCUMULATE) {
        let old = unpack_HALF(atomicLoad(&grad_student_logits[at]));
        bits = accumulate_bits(old.xyxy, value.xyxy).xy;
    }
    let word = pack_HALF(bits.x) | (pack_HALF(bits.y) << 16u);
    if (low && high) {
        atomicStore(&grad_student_logits[at], word);
        return;
    }
    let own = select(0xffff0000u, 0x0000ffffu, low);
    atomicAnd(&grad_student_logits[at], ~own);
    atomicOr(&grad_student_logits[at], word & own);
}
