// Observe, for a teacher that is a list: adds the list and the tail, as k + 1 classes, to the sums of the student's classes off the list.

#import list
#import vector

// Adds 4 classes, given their exponents of 2 and exponentials, relative to the maxima of the sums.
fn add_classes(sums: ptr<function, Sums>, ds: vec4<f32>, dt: vec4<f32>, es: vec4<f32>, et: vec4<f32>, s_ok: vec4<bool>, t_ok: vec4<bool>) {
    let zero = vec4<f32>();
    let hidden = !s_ok & t_ok;
    let seen_teacher = select(et, zero, hidden);
    let seen_student = select(zero, es, t_ok);
    (*sums).student_sum += total(es);
    (*sums).teacher_sum += total(et);
    (*sums).masked_mass += total(et - seen_teacher);
#moments
    (*sums).$moment += $checked_term;
#end
}

// Four places of the list: the logits of those that count. A masked class of the student has `-inf`.
struct Places {
    student: vec4<f32>,
    teacher: vec4<f32>,
    count: vec4<bool>,
}

fn places_from(row: Row, start: u32) -> Places {
    var y: Places;
    for (var i = 0u; i < 4u; i++) {
        let place = start + i;
        if (place >= params.teacher_classes) {
            break;
        }
        let id = teacher_ids[row.ids + place];
        if (id < 0 || u32(id) >= params.classes) {
            continue;
        }
        let column = u32(id) + row.misalignment;
        // An empty place is not in the table, nor is the second place of a class.
        if (places_of(row, (column & 0xfffffffcu) - row.misalignment)[column & 3u] == place) {
            y.student[i] = load_student_at(row.student, u32(id));
            y.teacher[i] = load_teacher_at(row.teacher, place);
            y.count[i] = true;
        }
    }
    return y;
}

#if ghost_tail
// Of a lane's entries: the sum of their probabilities, less 1 for each likely one, the number of likely ones, and of all.
var<private> listed_probability: f32;
var<private> likely_entries: f32;
var<private> entries: f32;

// e^x - 1 of -0.5 <= x <= 0.
fn exp_minus_one(x: f32) -> f32 {
    let tail = 0.041666668 + x * (0.008333334 + x * (0.0013888889 + x * (0.0001984127 + x * 0.0000248016)));
    return x * (1.0 + x * (0.5 + x * (0.16666667 + x * tail)));
}

fn add_probabilities(places: Places) {
    for (var j = 0u; j < 4u; j++) {
        if (!places.count[j]) {
            continue;
        }
        let log_q = places.teacher[j];
        entries += 1.0;
        // 1 - q of one likely class comes without a difference.
        if (log_q > -0.5 && log_q <= 0.0) {
            listed_probability += exp_minus_one(log_q);
            likely_entries += 1.0;
        } else {
            listed_probability += exp(log_q);
        }
    }
}
#end

// One lane's sums over the list.
fn observe_list(row: Row, invocation: Invocation, wanted: bool) -> Sums {
    var sums = sums_identity();
#if ghost_tail
    listed_probability = 0.0;
    likely_entries = 0.0;
    entries = 0.0;
#end
    if (!wanted) {
        return sums;
    }
    for (var i = invocation.lane; 4u * i < params.teacher_classes; i += LANES) {
        let places = places_from(row, 4u * i);
#if ghost_tail
        add_probabilities(places);
#end
        let masked = bitcast<vec4<u32>>(places.student) == vec4<u32>(0xff800000u);
        let s_ok = places.count & is_finite(places.student);
        let t_ok = places.count & is_finite(places.teacher);
        if (any(places.count & !(s_ok | masked)) || any(places.count & !t_ok)) {
            sums.flags |= NON_FINITE;
        }
        sums.flags |= select(0u, STUDENT_MASKED, any(places.count & masked));
        sums.flags |= select(0u, STUDENT_LIVE, any(s_ok));
        sums.flags |= select(0u, TEACHER_LIVE, any(t_ok));
        let lowest = vec4<f32>(LOWEST);
        let s = select(lowest, places.student, s_ok);
        let t = select(lowest, places.teacher, t_ok);
        let student_max = max(sums.student_max, largest(s));
        let teacher_max = max(sums.teacher_max, largest(t));
        sums = rescale_sums(sums, student_max, teacher_max);
        // The clamps are those of `rescale_sums`.
        let zero = vec4<f32>();
        let ds = select(zero, max((s - student_max) * student_log2(), vec4<f32>(-1e37)), s_ok);
        let dt = max((t - teacher_max) * teacher_log2(), vec4<f32>(LOWEST_DT));
        add_classes(&sums, ds, dt, select(zero, exp2(ds), s_ok), select(zero, exp2(dt), t_ok), s_ok, t_ok);
    }
    return sums;
}

// Sets the teacher's part of the tail, after `observe_list`. Must be called in uniform control flow.
fn set_tail(invocation: Invocation) {
    tail_teacher = LOWEST;
    tail_has_teacher = false;
#if ghost_tail
    let probability = (1.0 - reduce_add(likely_entries, invocation)) - reduce_add(listed_probability, invocation);
    // Rounding does not make a tail without classes.
    let exists = u32(reduce_add(entries, invocation)) < params.classes;
    tail_has_teacher = exists && probability > 0.0;
    tail_teacher = log(max(probability, 1.2e-38));
#end
}

// The sums of the tail alone, given those of the student off the list.
fn tail_sums(rest: Sums) -> Sums {
    var y = sums_identity();
    tail_student_max = rest.student_max;
    tail_student_sum = rest.student_sum;
    let s_ok = vec4<bool>(rest.student_sum > 0.0, false, false, false);
    let t_ok = vec4<bool>(tail_has_teacher, false, false, false);
    y.student_max = rest.student_max;
    y.teacher_max = select(LOWEST, tail_teacher, tail_has_teacher);
    let ds = select(vec4<f32>(), vec4<f32>(log2(rest.student_sum)), s_ok);
    let dt = select(vec4<f32>(LOWEST_DT), vec4<f32>(), t_ok);
    let es = select(vec4<f32>(), vec4<f32>(rest.student_sum), s_ok);
    let et = select(vec4<f32>(), vec4<f32>(1.0), t_ok);
    add_classes(&y, ds, dt, es, et, s_ok, t_ok);
    y.flags = rest.flags | select(0u, TEACHER_LIVE, tail_has_teacher);
    // The hard part has the classes themselves.
#moments of the hard part
    y.$moment = rest.$moment;
#end
    return y;
}

// The sums of a whole row, given those of the student off the list. Sets the tail. Must be called in uniform control flow, after `read_list`,
// which found only classes if `valid`.
fn with_list(row: Row, invocation: Invocation, rest: Sums, valid: bool, wanted: bool) -> Sums {
    var on_list = observe_list(row, invocation, wanted);
    set_tail(invocation);
    on_list.flags |= select(NON_FINITE, 0u, valid);
    return combine_sums(reduce_sums(on_list, invocation), tail_sums(rest));
}

// Keeps the tail for a later dispatch, in the fields of the classes beside those with a probability of their own.
fn with_tail(stats: RowStats) -> RowStats {
    var y = stats;
    if ((stats.flags & IGNORED) != 0u) {
        return y;
    }
    y.rest_student_max = tail_student_max;
    y.rest_student_sum = tail_student_sum;
    y.rest_teacher_max = select(LOWEST, tail_teacher, tail_has_teacher);
    y.rest_teacher_sum = select(0.0, 1.0, tail_has_teacher);
    return y;
}

// One lane's sums of the second sweep over the list and the tail.
fn sweep_list(row: Row, invocation: Invocation, sums: Sums, wanted: bool) -> vec3<f32> {
    var swept = vec3<f32>();
    if (!wanted) {
        return swept;
    }
    let scales = 1.0 / vec2<f32>(sums.student_sum, sums.teacher_sum);
    for (var i = invocation.lane; 4u * i < params.teacher_classes; i += LANES) {
        let places = places_from(row, 4u * i);
        let p = exp2((places.student - sums.student_max) * student_log2()) * scales.x;
        let q = exp2((places.teacher - sums.teacher_max) * teacher_log2()) * scales.y;
        swept += sweep_terms(select(vec4<f32>(), p, places.count), select(vec4<f32>(), q, places.count));
    }
    if (invocation.lane == 0u) {
        let p = tail_student_sum * exp2((tail_student_max - sums.student_max) * student_log2()) * scales.x;
        let q = select(0.0, exp2((tail_teacher - sums.teacher_max) * teacher_log2()) * scales.y, tail_has_teacher);
        swept += sweep_terms(vec4<f32>(p, 0.0, 0.0, 0.0), vec4<f32>(q, 0.0, 0.0, 0.0));
    }
    return swept;
}
