// The student's logits by words. If the gradient overwrites them, they are read through the gradient's binding,
// because a compiler may assume that two bindings do not overlap.

fn student_word(at: u32) -> StudentWord {
#if student_bound
    return student_logits[at];
#end
#if in_place_words
    return grad_student_logits[at];
#end
#if in_place_atomics
    return atomicLoad(&grad_student_logits[at]);
#end
}

// The last column that may be read.
fn student_last() -> u32 {
    return params.classes - 1u;
}
