// The mergeable statistics of a part of a row: a monoid (docs/METHOD.md, section 3).
// s, t: logits over their temperatures; ms, mt: their maxima.
// The maxima are not divided by the temperature, so that a common offset costs no precision.
// Distances from the maxima are in units of ln 2, as the exponents of `exp2` are, until `in_nats`.
// The moments are those that the variant needs: src/moments.rs has the table, src/shader/moments.rs their expressions.

#import temperatures

struct Sums {
    student_max: f32,
    teacher_max: f32,
    student_sum: f32,  // sum e^(s-ms)
    teacher_sum: f32,  // sum e^(t-mt)
    masked_mass: f32,  // sum e^(t-mt) over classes that the student masks
    flags: u32,
#moments
    $moment: f32,
#end
}

fn total(v: vec4<f32>) -> f32 {
    return (v.x + v.z) + (v.y + v.w);
}

const LOWEST: f32 = -3.4028234e38;

fn sums_identity() -> Sums {
    var y: Sums;
    y.student_max = LOWEST;
    y.teacher_max = LOWEST;
    return y;
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
    // Clamped: the distance from the identity overflows, and 0 * inf is NaN. Every factor below -1e4 is 0. A bound is wider where a
    // moment needs the exact distance.
    let ds = max((x.student_max - student_max) * student_log2(), -1e37);
    let fs = exp2(ds);
#if teacher_known
    let dt = max((x.teacher_max - teacher_max) * teacher_log2(), LOWEST_DT);
    let ft = exp2(dt);
#end
    var y = x;
    y.student_max = student_max;
    y.teacher_max = teacher_max;
    y.student_sum = x.student_sum * fs;
#if teacher_known
    y.teacher_sum = x.teacher_sum * ft;
    y.masked_mass = x.masked_mass * ft;
#end
#moments
    y.$moment = $rescaled;
#end
    return y;
}

// Adds sums relative to the same maxima.
fn add_sums(x: Sums, y: Sums) -> Sums {
    var z = x;
    z.student_sum += y.student_sum;
    z.teacher_sum += y.teacher_sum;
    z.masked_mass += y.masked_mass;
    z.flags |= y.flags;
#moments
    z.$moment += y.$moment;
#end
    return z;
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
#moments with a factor
    y.$moment *= ln2;
#end
    return y;
}
