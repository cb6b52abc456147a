// Gradient rows of f32 that start anywhere, stored one element at a time.

#import accumulate
#import aligned

// Stores columns first .. first + 3, those that exist, given as bits.
fn store_grad(base: u32, first: u32, value: vec4<u32>) {
    for (var i = 0u; i < 4u; i++) {
        let column = first + i;
        if (column < params.classes) {
            var bits = vec4<u32>(value[i]);
            if (ACCUMULATE) {
                bits = accumulate_bits(vec4<f32>(bitcast<f32>(grad_student_logits[base + column])), bits);
            }
            grad_student_logits[base + column] = bits.x;
        }
    }
}
