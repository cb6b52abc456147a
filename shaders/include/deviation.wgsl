// The standard deviation of a row's logits over the classes that are not masked: one sweep before `observe`, which reads the row again from
// caches. It runs in reverse, so that the start of a long row is read last.
//
// A lane keeps the count, the mean and the squared deviations of its classes (Chan, Golub, LeVeque 1979). The mean is relative to a logit of
// the lane, so that a common offset costs no digit.

struct Spread {
    count: f32,
    origin: f32,   // the first logit that is not masked
    mean: f32,     // relative to the origin
    squares: f32,  // sum of squared deviations from the mean
    recent: f32,   // a part of them that `squares` does not include yet
}

// Distances from an origin saturate, so that no sum of squares overflows.
const FARTHEST: f32 = 1e14;

fn saturated(distance: vec4<f32>) -> vec4<f32> {
    return clamp(distance, vec4<f32>(-FARTHEST), vec4<f32>(FARTHEST));
}

// Adds those of 4 classes that are live. Others are not looked at.
fn add_to_spread(spread: ptr<function, Spread>, x: vec4<f32>, live: vec4<bool>) {
    if (!any(live)) {
        return;
    }
    if ((*spread).count == 0.0) {
        (*spread).origin = select(select(select(x.w, x.z, live.z), x.y, live.y), x.x, live.x);
    }
    let zero = vec4<f32>();
    let origin = vec4<f32>((*spread).origin);
    let count = total(select(zero, vec4<f32>(1.0), live));
    let distances = saturated(select(origin, x, live) - origin);
    let mean = total(distances) / count;
    let deviations = select(zero, distances - mean, live);
    let all = (*spread).count + count;
    let delta = mean - (*spread).mean;
    let share = count / all;
    (*spread).recent += dot(deviations, deviations) + delta * delta * (*spread).count * share;
    (*spread).mean += delta * share;
    (*spread).count = all;
}

fn is_live(x: vec4<f32>, vector: u32, row: Row, classes: u32) -> vec4<bool> {
    let columns = columns_of((row.start + vector) * 4u - row.misalignment);
    return is_finite(x) & (columns < vec4<u32>(classes)) & vec4<bool>(vector < row.vectors);
}

// The spread of one side of a row, from those of its lanes.
struct RowSpread {
    count: f32,
    origin: f32,
    mean: f32,       // relative to the origin
    deviation: f32,  // 0 of a single class
}

// Must be called in uniform control flow.
fn reduce_spread(spread: Spread, invocation: Invocation) -> RowSpread {
    let origin = reduce_max(select(LOWEST, spread.origin, spread.count > 0.0), invocation);
    let count = reduce_add(spread.count, invocation);
    let own = clamp(spread.origin - origin, -FARTHEST, FARTHEST) + spread.mean;
    let mean = reduce_add(own * (spread.count / max(count, 1.0)), invocation);
    let delta = own - mean;
    let squares = reduce_add(spread.squares + spread.recent + spread.count * delta * delta, invocation);
    return RowSpread(count, origin, mean, sqrt(squares / max(count - 1.0, 1.0)));
}

struct Spreads {
    student: RowSpread,
    teacher: RowSpread,
}

// Returns the spreads to every lane. Must be called in uniform control flow.
fn spreads_of(row: Row, invocation: Invocation) -> Spreads {
    var student: Spread;
    var teacher: Spread;
    var recent_vectors = 0u;
    let tiles = (row.vectors + TILE_VECTORS - 1u) / TILE_VECTORS;
    for (var tile = 1u; tile <= tiles; tile++) {
        // The first tile may start before the row: such vectors wrap around, and are not below `row.vectors`.
        let start = row.vectors - tile * TILE_VECTORS + invocation.lane;
#unroll
        let first_$i = (row.start + min(start + $iu * LANES, row.vectors - 1u)) * 4u - row.misalignment;
        let s_$i = load_student(row.student, first_$i);
        let t_$i = load_teacher(row.teacher, first_$i);
#end
#unroll
        add_to_spread(&student, s_$i, is_live(s_$i, start + $iu * LANES, row, params.classes));
        add_to_spread(&teacher, t_$i, is_live(t_$i, start + $iu * LANES, row, params.teacher_classes));
#end
        recent_vectors += VECTORS_PER_LANE;
        if (recent_vectors >= VECTORS_PER_PARTIAL_SUM) {
            student.squares += student.recent;
            teacher.squares += teacher.recent;
            student.recent = 0.0;
            teacher.recent = 0.0;
            recent_vectors = 0u;
        }
    }
    return Spreads(reduce_spread(student, invocation), reduce_spread(teacher, invocation));
}
