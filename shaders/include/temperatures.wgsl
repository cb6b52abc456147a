// The factors of a row's logits that follow from its temperatures. Standardised rows have temperatures of their own: the configuration's
// times the standard deviation of the row's logits plus DEVIATION_FLOOR (docs/LOSSES.md, section 2).

#if shared_temperatures
// log2(e) over the student's temperature.
fn student_log2() -> f32 {
    return params.student_log2;
}

// log2(e) over the teacher's temperature.
fn teacher_log2() -> f32 {
    return params.teacher_log2;
}

// 1 over the student's temperature.
fn student_inverse() -> f32 {
    return params.student_inverse;
}

// 1 over the temperature of the hard part.
fn hard_inverse() -> f32 {
    return params.hard_inverse;
}

// The student's temperature over that of the hard part.
fn hard_ratio() -> f32 {
    return params.hard_ratio;
}
#end
#if standardized
// Of the row at hand: 1 over its standard deviation plus DEVIATION_FLOOR.
var<private> student_unit: f32;
var<private> teacher_unit: f32;

// Must precede every use of the row's logits.
fn set_deviations(student: f32, teacher: f32) {
    student_unit = 1.0 / (student + DEVIATION_FLOOR);
    teacher_unit = 1.0 / (teacher + DEVIATION_FLOOR);
}

fn student_log2() -> f32 {
    return params.student_log2 * student_unit;
}

fn teacher_log2() -> f32 {
    return params.teacher_log2 * teacher_unit;
}

fn student_inverse() -> f32 {
    return params.student_inverse * student_unit;
}

// A hard part without a temperature of its own sees the standardised logits.
fn hard_inverse() -> f32 {
    if (HARD_OWN) {
        return params.hard_inverse;
    }
    return params.hard_inverse * student_unit;
}

fn hard_ratio() -> f32 {
    return params.hard_ratio / student_unit;
}
#end
