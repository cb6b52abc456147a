// The label's class, which some divergences leave out of a row's sums: its two logits as the sums of a row of one class.
// 1 - p of the label then comes without a difference.

fn logit_is_finite(bits: u32) -> bool {
    return (bits & 0x7f800000u) != 0x7f800000u;
}

// The sums of the label's class alone, given the bits of its logits. In the unit of the sums before `in_nats`.
fn sums_of_label(student_logit: u32, teacher_logit: u32) -> Sums {
    let masked = 0xff800000u;
    var y = sums_identity();
    let has_student = logit_is_finite(student_logit);
    let has_teacher = logit_is_finite(teacher_logit);
    if ((!has_student && student_logit != masked) || (!has_teacher && teacher_logit != masked)) {
        y.flags = NON_FINITE;
        return y;
    }
    y.flags = select(STUDENT_MASKED, STUDENT_LIVE, has_student) | select(0u, TEACHER_LIVE, has_teacher);
    if (has_student) {
        y.student_max = bitcast<f32>(student_logit);
        y.student_sum = 1.0;
    }
    if (has_teacher) {
        y.teacher_max = bitcast<f32>(teacher_logit);
        y.teacher_sum = 1.0;
        y.masked_mass = select(1.0, 0.0, has_student);
    }
    // Both distances from the maxima are 0.
    let student = select(0.0, 1.0, has_student);
    let teacher = select(0.0, 1.0, has_teacher);
#moments
    y.$moment = $single;
#end
    return y;
}

// Adds the label's class to the sums of the other classes.
fn with_label(rest: Sums, student_logit: u32, teacher_logit: u32) -> Sums {
    return combine_sums(rest, sums_of_label(student_logit, teacher_logit));
}
