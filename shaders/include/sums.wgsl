// The mergeable statistics of a part of a row: a monoid (docs/METHOD.md, section 3).
// s, t: logits over their temperatures; ms, mt: their maxima.
// The maxima are not divided by the temperature, so that a common offset costs no precision.
// Distances from the maxima are in units of ln 2, as the exponents of `exp2` are, until `in_nats`.

struct Sums {
    student_max: f32,
    teacher_max: f32,
    student_sum: f32,     // sum e^(s-ms)
    teacher_sum: f32,     // sum e^(t-mt)
    difference: f32,      // A = sum e^(t-mt) ((t-mt) - (s-ms)), over classes that the student does not mask
    moment: f32,          // B = sum e^(t-mt) (t-mt), over the same
    cross: f32,           // cosine: sum e^(s-ms) e^(t-mt); bhattacharyya: sum e^(((s-ms)+(t-mt))/2)
    student_square: f32,  // cosine: sum e^2(s-ms)
    teacher_square: f32,  // cosine: sum e^2(t-mt)
    student_offset: f32,  // smoothing: U = sum (s-ms)
    student_count: f32,   // smoothing: classes in that sum
    masked_mass: f32,     // sum e^(t-mt) over classes that the student masks
    flags: u32,
}

fn total(v: vec4<f32>) -> f32 {
    return (v.x + v.z) + (v.y + v.w);
}

const LOWEST: f32 = -3.4028234e38;

fn sums_identity() -> Sums {
    return Sums(LOWEST, LOWEST, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0u);
}

// Empty sums, relative to the same maxima.
fn sums_from(x: Sums) -> Sums {
    var y = sums_identity();
    y.student_max = x.student_max;
    y.teacher_max = x.teacher_max;
    return y;
}

// The same sums relative to other maxima, at least as large.
fn rescale_sums(x: Sums, student_max: f32, teacher_max: f32) -> Sums {
    // Clamped: the distance from the identity overflows, and 0 * inf is NaN. Every factor below -1e4 is 0. The student's bound is wider
    // because `difference` and `student_offset` need its exact distance.
    let ds = max((x.student_max - student_max) * params.student_log2, -1e37);
    let dt = max((x.teacher_max - teacher_max) * params.teacher_log2, -1e4);
    let fs = exp2(ds);
    let ft = exp2(dt);
    let seen = x.teacher_sum - x.masked_mass;
    var y = x;
    y.student_max = student_max;
    y.teacher_max = teacher_max;
    y.student_sum = x.student_sum * fs;
    y.teacher_sum = x.teacher_sum * ft;
    y.difference = select(0.0, ft * (x.difference + seen * (dt - ds)), ft > 0.0);
    y.moment = ft * (x.moment + seen * dt);
    if (SIMILARITY == BHATTACHARYYA) {
        y.cross = x.cross * exp2(0.5 * (max(ds, -1e4) + dt));
    } else {
        y.cross = x.cross * fs * ft;
    }
    y.student_square = x.student_square * fs * fs;
    y.teacher_square = x.teacher_square * ft * ft;
    y.student_offset = x.student_offset + x.student_count * ds;
    y.masked_mass = x.masked_mass * ft;
    return y;
}

// Adds sums relative to the same maxima.
fn add_sums(x: Sums, y: Sums) -> Sums {
    return Sums(
        x.student_max,
        x.teacher_max,
        x.student_sum + y.student_sum,
        x.teacher_sum + y.teacher_sum,
        x.difference + y.difference,
        x.moment + y.moment,
        x.cross + y.cross,
        x.student_square + y.student_square,
        x.teacher_square + y.teacher_square,
        x.student_offset + y.student_offset,
        x.student_count + y.student_count,
        x.masked_mass + y.masked_mass,
        x.flags | y.flags,
    );
}

// The merge of the monoid: sums relative to any maxima.
fn combine_sums(x: Sums, y: Sums) -> Sums {
    let student_max = max(x.student_max, y.student_max);
    let teacher_max = max(x.teacher_max, y.teacher_max);
    return add_sums(
        rescale_sums(x, student_max, teacher_max),
        rescale_sums(y, student_max, teacher_max),
    );
}

// Distances in nats, as RowStats has them.
fn in_nats(x: Sums) -> Sums {
    let ln2 = 0.6931471805599453;
    var y = x;
    y.difference *= ln2;
    y.moment *= ln2;
    y.student_offset *= ln2;
    return y;
}
