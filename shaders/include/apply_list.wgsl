// Apply, for a teacher that is a list: the coefficient of the classes off the list, which follows from the tail, and the terms of the others.

#import list

// The classes off the list have one coefficient of e^(s - tail_student_max).
var<private> tail_scale: f32;

// Sets the tail from the statistics of an earlier dispatch.
fn set_kept_tail(stats: RowStats) {
    tail_student_max = stats.rest_student_max;
    tail_student_sum = stats.rest_student_sum;
    tail_teacher = stats.rest_teacher_max;
    tail_has_teacher = stats.rest_teacher_sum > 0.0;
}

fn set_tail_scale(decision: Decision) {
    if (!(tail_student_sum > 0.0)) {
        tail_scale = 0.0;
        return;
    }
    let distance = max((tail_student_max - decision.student_max) * student_log2(), -1e37);
    let ds = vec4<f32>(distance + log2(tail_student_sum));
    let es = exp2(distance);
    let p = vec4<f32>(es * tail_student_sum * decision.student_inverse);
    let dt = vec4<f32>(select(-1e37, max((tail_teacher - decision.teacher_max) * teacher_log2(), -1e37), tail_has_teacher));
    let et = exp2(dt);
    let terms = shape_terms(p, et * decision.teacher_inverse, ds, dt, decision) - et * decision.teacher_scale;
    tail_scale = decision.student_scale * es + terms.x / tail_student_sum;
}

// The student's and the teacher's terms of 4 classes: those of `off_list` with those of the listed classes instead.
fn with_listed(row: Row, first: u32, off_list: vec4<f32>, decision: Decision) -> vec4<f32> {
    let places = places_of(row, first);
    var terms = off_list;
    for (var i = 0u; i < 4u; i++) {
        if (places[i] == NO_PLACE) {
            continue;
        }
        let s = load_student_at(row.student, first + i);
        let t = load_teacher_at(row.teacher, places[i]);
        let ds = vec4<f32>(max((s - decision.student_max) * student_log2(), -1e37));
        let dt = vec4<f32>(max((t - decision.teacher_max) * teacher_log2(), -1e37));
        let es = exp2(ds);
        let et = exp2(dt);
        var term = es * decision.student_scale - et * decision.teacher_scale;
        term += shape_terms(es * decision.student_inverse, et * decision.teacher_inverse, ds, dt, decision);
        if (HARD_OWN) {
            term += exp2(ds * hard_ratio()) * decision.hard_scale;
        }
        terms[i] = term.x;
    }
    return terms;
}
