// The gradient as rows of f32 that start anywhere.

#import accumulate

// How many columns of the row before it share a word with a row's first: none.
fn grad_head(base: u32) -> u32 {
    return 0u;
}

// Columns first .. first + 3, those that exist, given as bits.
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
