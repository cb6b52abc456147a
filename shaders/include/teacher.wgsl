// The teacher's logits by words.

fn teacher_word(at: u32) -> TeacherWord {
    return teacher_logits[at];
}

// The last column that may be read.
fn teacher_last() -> u32 {
    return params.teacher_classes - 1u;
}
