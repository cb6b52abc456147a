// Observe: one lane's share of a row of student and teacher logits, in one online sweep.
// Each logit is loaded once. Sums are f32, four a lane, relative to the lane's own maxima.

struct LaneSums {
    student_max: f32,
    teacher_max: f32,
    student_sum: vec4<f32>,
    teacher_sum: vec4<f32>,
    difference: vec4<f32>,      // in units of log2(e), as the exponents are
    moment: vec4<f32>,          // likewise
    cross: vec4<f32>,
    student_square: vec4<f32>,
    teacher_square: vec4<f32>,
    student_offset: vec4<f32>,  // likewise
    student_count: vec4<f32>,
    masked_mass: vec4<f32>,
    flags: u32,
}

fn total(v: vec4<f32>) -> f32 {
    return (v.x + v.z) + (v.y + v.w);
}

fn largest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.z), max(v.y, v.w));
}

fn rescale_lane(lane: ptr<function, LaneSums>, student_max: f32, teacher_max: f32) {
    // The clamps are those of `rescale_sums`.
    let ds = max(((*lane).student_max - student_max) * params.student_log2, -1e37);
    let dt = max(((*lane).teacher_max - teacher_max) * params.teacher_log2, -1e4);
    let fs = exp2(ds);
    let ft = exp2(dt);
    let seen = (*lane).teacher_sum - (*lane).masked_mass;
    (*lane).difference = select(vec4<f32>(), ft * ((*lane).difference + seen * (dt - ds)), ft > 0.0);
    (*lane).moment = ft * ((*lane).moment + seen * dt);
    (*lane).student_sum *= fs;
    (*lane).teacher_sum *= ft;
    if (SIMILARITY == COSINE) {
        (*lane).cross *= fs * ft;
        (*lane).student_square *= fs * fs;
        (*lane).teacher_square *= ft * ft;
    }
    if (SIMILARITY == BHATTACHARYYA) {
        (*lane).cross *= exp2(0.5 * (max(ds, -1e4) + dt));
    }
    if (SMOOTHING) {
        (*lane).student_offset += (*lane).student_count * ds;
    }
    (*lane).masked_mass *= ft;
    (*lane).student_max = student_max;
    (*lane).teacher_max = teacher_max;
}

// Adds 4 classes. With `careful`, `hidden` marks masked students, and differences are kept from overflowing;
// `s_ok` and `t_ok` say which values take part, the others hold LOWEST.
fn add_unit(
    lane: ptr<function, LaneSums>,
    s: vec4<f32>,
    t: vec4<f32>,
    careful: bool,
    s_ok: vec4<bool>,
    t_ok: vec4<bool>,
    hidden: vec4<bool>,
) {
    let student_max = max((*lane).student_max, largest(s));
    let teacher_max = max((*lane).teacher_max, largest(t));
    if (student_max > (*lane).student_max || teacher_max > (*lane).teacher_max) {
        rescale_lane(lane, student_max, teacher_max);
    }
    var ds = (s - student_max) * params.student_log2;
    var dt = (t - teacher_max) * params.teacher_log2;
    if (careful) {
        ds = max(ds, vec4<f32>(-1e37));
        dt = max(dt, vec4<f32>(-1e4));
    }
    var es = exp2(ds);
    var et = exp2(dt);
    var seen = et;
    if (careful) {
        es = select(vec4<f32>(), es, s_ok);
        et = select(vec4<f32>(), et, t_ok);
        ds = select(vec4<f32>(), ds, s_ok);
        seen = select(et, vec4<f32>(), hidden);
        (*lane).masked_mass += et - seen;
    }
    (*lane).student_sum += es;
    (*lane).teacher_sum += et;
    (*lane).difference += seen * (dt - ds);
    (*lane).moment += seen * dt;
    if (SIMILARITY == COSINE) {
        (*lane).cross += es * et;
        (*lane).student_square += es * es;
        (*lane).teacher_square += et * et;
    }
    if (SIMILARITY == BHATTACHARYYA) {
        (*lane).cross += sqrt(es * et);
    }
    if (SMOOTHING) {
        (*lane).student_offset += ds;
        (*lane).student_count += select(vec4<f32>(), vec4<f32>(1.0), s_ok);
    }
}

fn magnitudes(v: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu);
}

// Padding, infinities, NaN and huge values: sorted out by their bits before any arithmetic sees them.
fn add_unit_carefully(lane: ptr<function, LaneSums>, s: vec4<f32>, t: vec4<f32>, first: u32) {
    let columns = vec4<u32>(first, first + 1u, first + 2u, first + 3u);
    let inside = columns < vec4<u32>(params.classes);
    let inside_teacher = columns < vec4<u32>(params.teacher_classes);
    let s_masked = bitcast<vec4<u32>>(s) == vec4<u32>(0xff800000u);
    let t_masked = bitcast<vec4<u32>>(t) == vec4<u32>(0xff800000u);
    let s_finite = magnitudes(s) < vec4<u32>(0x7f800000u);
    let t_finite = magnitudes(t) < vec4<u32>(0x7f800000u);
    let s_ok = inside & s_finite;
    let t_ok = inside_teacher & t_finite;
    let hidden = inside & s_masked;
    if (any(inside & !s_finite & !s_masked) || any(inside_teacher & !t_finite & !t_masked)) {
        (*lane).flags |= NON_FINITE;
    }
    (*lane).flags |= select(0u, STUDENT_MASKED, any(hidden));
    (*lane).flags |= select(0u, STUDENT_LIVE, any(s_ok));
    (*lane).flags |= select(0u, TEACHER_LIVE, any(t_ok));
    let lowest = vec4<f32>(LOWEST);
    add_unit(lane, select(lowest, s, s_ok), select(lowest, t, t_ok), true, s_ok, t_ok, hidden);
}

fn observe_row(row: Row, place: Place) -> Sums {
    var lane: LaneSums;
    lane.student_max = LOWEST;
    lane.teacher_max = LOWEST;
    for (var unit = place.lane; unit < row.units; unit += LANES) {
        // With a head the first unit starts before the row: `first` wraps around, and is not below `classes`.
        let first = unit * 4u - row.head;
        let s = load_student(row.student, first);
        let t = load_teacher(row.teacher, first);
        let bits = max(magnitudes(s), magnitudes(t));
        let magnitude = max(max(bits.x, bits.z), max(bits.y, bits.w));
        let whole = first < params.teacher_classes && first + 3u < params.teacher_classes;
        if (whole && magnitude < params.careful_bits) {
            lane.flags |= STUDENT_LIVE | TEACHER_LIVE;
            let yes = vec4<bool>(true);
            add_unit(&lane, s, t, false, yes, yes, vec4<bool>(false));
        } else {
            add_unit_carefully(&lane, s, t, first);
        }
    }
    let ln2 = 0.6931471805599453;
    return Sums(
        lane.student_max,
        lane.teacher_max,
        total(lane.student_sum),
        total(lane.teacher_sum),
        total(lane.difference) * ln2,
        total(lane.moment) * ln2,
        total(lane.cross),
        total(lane.student_square),
        total(lane.teacher_square),
        total(lane.student_offset) * ln2,
        total(lane.student_count),
        total(lane.masked_mass),
        lane.flags,
    );
}
