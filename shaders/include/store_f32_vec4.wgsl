// Gradient rows of f32 that start at multiples of 16 bytes, stored 16 bytes at a time.

#import accumulate
#import aligned

// Stores columns first .. first + 3, those that exist, given as bits.
fn store_grad(base: u32, first: u32, value: vec4<u32>) {
    let at = (base + first) >> 2u;
    var bits = value;
    if (ACCUMULATE) {
        bits = accumulate_bits(bitcast<vec4<f32>>(grad_student_logits[at]), value);
    }
    if (first + 4u <= params.classes) {
        grad_student_logits[at] = bits;
        return;
    }
    // The columns beyond the row's end are the caller's padding and stay as they are.
    grad_student_logits[at].x = bits.x;
    if (first + 1u < params.classes) {
        grad_student_logits[at].y = bits.y;
    }
    if (first + 2u < params.classes) {
        grad_student_logits[at].z = bits.z;
    }
}
