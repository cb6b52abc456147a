// Observe: one lane's sums (docs/METHOD.md, section 3) over its part of a row, in one online sweep, VECTORS_PER_LANE vectors at a time.
// Each logit is loaded once. All loads of a tile precede the first use, and sums are rescaled once per tile.
// The last tile stays in registers: its exponentials, relative to the lane's maxima at that time, or with KEEP_LOGITS its logits. A lane
// whose last tile took the checked path reads it again.
// They are single variables because compilers keep a dynamically indexed array in memory.
// Sampled tokens and lists have no teacher's row: nothing of it is loaded, kept or summed. The classes of a list are left out.

#import masks
#import vector

#unroll
var<private> kept_student_$i: vec4<f32>;
#if teacher_row
var<private> kept_teacher_$i: vec4<f32>;
#end
#end
#unroll soft_labels
var<private> kept_soft_label_$i: vec4<f32>;
#end
var<private> tile_is_kept: bool = true;
var<private> kept_student_max: f32;
#if teacher_row
var<private> kept_teacher_max: f32;
#end

// Adds 4 classes, given their exponents of 2 and exponentials, relative to the maxima of the sums, and their part `y` of the soft label.
#if teacher_row
fn add_vector(sums: ptr<function, Sums>, ds: vec4<f32>, dt: vec4<f32>, es: vec4<f32>, et: vec4<f32>, y: vec4<f32>) {
#end
#if student_alone
fn add_vector(sums: ptr<function, Sums>, ds: vec4<f32>, es: vec4<f32>, y: vec4<f32>) {
#end
    (*sums).student_sum += total(es);
#if teacher_row
    (*sums).teacher_sum += total(et);
#end
#moments of a row
    (*sums).$moment += $term;
#end
}

#if sums_weighted
// Adds the moments with the weights of the 4 classes from column `first`.
fn add_weighted_vector(sums: ptr<function, Sums>, first: u32, ds: vec4<f32>, et: vec4<f32>) {
    let bits = class_weight_bits(first);
    let v = bitcast<vec4<f32>>(bits);
    (*sums).flags |= select(0u, NON_FINITE, any(are_refused(bits)));
#end
#moments with class weights
    (*sums).$moment += $term;
#end
#if sums_weighted
}
#end

// The columns of a vector that exist and are not left out of the sums.
fn is_summed(row: Row, first: u32, classes: u32) -> vec4<bool> {
    let columns = columns_of(first);
    if (LABEL_APART) {
        return (columns < vec4<u32>(classes)) & (columns != vec4<u32>(row.label));
    }
#if listed
    return (columns < vec4<u32>(classes)) & !is_listed(row, first);
#end
#if not_listed
    return columns < vec4<u32>(classes);
#end
}

// Returns true if a lane's tile has the column that is left out.
fn has_label(row: Row, start: u32) -> bool {
    if (!LABEL_APART) {
        return false;
    }
    let distance = ((row.label + row.misalignment) >> 2u) - row.start - start;
    return distance <= (VECTORS_PER_LANE - 1u) * LANES && distance % LANES == 0u;
}

// The checked path (docs/METHOD.md, sections 7 and 8): adds 4 classes that may be padding, infinite, NaN or huge.
// Their bits are tested before any arithmetic.
fn observe_checked(sums: ptr<function, Sums>, row: Row, vector: u32) {
    let first = vector * 4u - row.misalignment;
    var s = load_student(row.student, first);
#if teacher_row
    var t = load_teacher(row.teacher, first);
#end
#if masks_joined
    join_masks(&s, &t, first);
#end
    let inside = is_summed(row, first, params.classes);
    let s_masked = bitcast<vec4<u32>>(s) == vec4<u32>(0xff800000u);
    let s_ok = inside & is_finite(s);
    let hidden = inside & s_masked;
    var unusable = any(inside & !is_finite(s) & !s_masked);
#if teacher_row
    let inside_teacher = is_summed(row, first, params.teacher_classes);
    let t_masked = bitcast<vec4<u32>>(t) == vec4<u32>(0xff800000u);
    let t_ok = inside_teacher & is_finite(t);
    unusable |= any(inside_teacher & !is_finite(t) & !t_masked);
    (*sums).flags |= select(0u, TEACHER_LIVE, any(t_ok));
#end
    if (unusable) {
        (*sums).flags |= NON_FINITE;
    }
    (*sums).flags |= select(0u, STUDENT_MASKED, any(hidden));
    (*sums).flags |= select(0u, STUDENT_LIVE, any(s_ok));
    let lowest = vec4<f32>(LOWEST);
    let s_real = select(lowest, s, s_ok);
    let student_max = max((*sums).student_max, largest(s_real));
    var teacher_max = (*sums).teacher_max;
#if teacher_row
    let t_real = select(lowest, t, t_ok);
    teacher_max = max(teacher_max, largest(t_real));
#end
    *sums = rescale_sums(*sums, student_max, teacher_max);
    // The clamps are those of `rescale_sums`.
    let zero = vec4<f32>();
    let ds = select(zero, max((s_real - student_max) * student_log2(), vec4<f32>(-1e37)), s_ok);
    let es = select(zero, exp2(ds), s_ok);
    (*sums).student_sum += total(es);
#if teacher_row
    let dt = max((t_real - teacher_max) * teacher_log2(), vec4<f32>(LOWEST_DT));
    let et = select(zero, exp2(dt), t_ok);
    let seen_teacher = select(et, zero, hidden);
    let seen_student = select(zero, es, t_ok);
    (*sums).masked_mass += total(et - seen_teacher);
    (*sums).teacher_sum += total(et);
#end
    let y = select(zero, load_soft_label(row.soft_label, first), inside);
#if soft_labels
    (*sums).flags |= select(0u, NON_FINITE, any(is_bad_soft_label(y)));
    (*sums).flags |= select(0u, SOFT_LABEL_MASKED, any(hidden & (y > zero)));
#end
#if sums_weighted
    let weight_bits = class_weight_bits(first);
    let v = bitcast<vec4<f32>>(weight_bits);
    (*sums).flags |= select(0u, NON_FINITE, any(are_refused(weight_bits)));
#end
#moments of the checked path
    (*sums).$moment += $checked_term;
#end
}

// Returns true if padding takes the checked path: sums of distances count it otherwise.
fn edges_are_checked() -> bool {
    return CHECK_EDGES || (CHECK_TEACHER_EDGES && params.teacher_classes < params.classes);
}

// The smaller of the factors of the teacher's temperatures.
fn teacher_far_log2() -> f32 {
    if (TEACHER_HARD_SUMMED) {
        return min(teacher_log2(), params.hard_log2);
    }
    return teacher_log2();
}

// The smaller of the factors of the student's temperatures.
fn far_log2() -> f32 {
    if (HARD_SUMMED) {
        return min(student_log2(), params.hard_log2);
    }
    return student_log2();
}

// The lowest number that does not take the checked path. It stands for columns that do not exist or are left out.
fn padding() -> f32 {
    return -bitcast<f32>(params.checked_from_bits - 1u);
}

// Returns true if exponentials of padding, relative to these maxima, are not surely 0.
fn is_near_padding(student_max: f32, teacher_max: f32) -> bool {
#if teacher_row
    return (student_max - padding()) * far_log2() < 1e4 || (teacher_max - padding()) * teacher_far_log2() < 1e4;
#end
#if student_alone
    return (student_max - padding()) * far_log2() < 1e4;
#end
}

// The classes of the shortest row that is read.
fn common_classes() -> u32 {
#if teacher_row
    return params.teacher_classes;
#end
#if student_alone
    return params.classes;
#end
}

// Returns true if a vector has columns that are padding, or may have the column that is left out.
fn has_padding(row: Row, vector: u32, first: u32) -> bool {
    // The first vector of a misaligned row starts before the row. Its column wraps around, and is not below any number of classes.
    return LABEL_APART || LISTED || vector >= row.vectors || max(first, first + 3u) >= common_classes();
}

// Adds those of the vectors start, start + LANES, ... that exist in the row's segment. At least the last of them exists.
fn observe_tile(sums: ptr<function, Sums>, row: Row, start: u32) {
#unroll
    let vector_$i = start + $iu * LANES;
    let first_$i = (row.start + min(vector_$i, row.vectors - 1u)) * 4u - row.misalignment;
    var s_$i = load_student(row.student, first_$i);
#if teacher_row
    var t_$i = load_teacher(row.teacher, first_$i);
#end
    var y_$i = load_soft_label(row.soft_label, first_$i);
#end
    let end = (row.start + start + (VECTORS_PER_LANE - 1u) * LANES) * 4u - row.misalignment;
    let edge = LISTED || start >= row.vectors || first_0 >= common_classes() || end + 3u >= common_classes() || has_label(row, start);
    if (edge) {
        let outside = vec4<f32>(padding());
#unroll
        if (has_padding(row, vector_$i, first_$i)) {
            let exists = vec4<bool>(vector_$i < row.vectors);
            s_$i = select(outside, s_$i, exists & is_summed(row, first_$i, params.classes));
#if teacher_row
            t_$i = select(outside, t_$i, exists & is_summed(row, first_$i, params.teacher_classes));
#end
#if soft_labels
            y_$i = select(vec4<f32>(), y_$i, exists & is_summed(row, first_$i, params.classes));
#end
        }
#end
    }
    var bits = vec4<u32>();
    var student_max = (*sums).student_max;
    var teacher_max = (*sums).teacher_max;
#unroll
#if teacher_row
    bits = max(bits, max(magnitudes(s_$i), magnitudes(t_$i)));
#end
#if student_alone
    bits = max(bits, magnitudes(s_$i));
#end
    student_max = max(student_max, largest(s_$i));
#if teacher_row
    teacher_max = max(teacher_max, largest(t_$i));
#end
#end
    var checked = max(max(bits.x, bits.z), max(bits.y, bits.w)) >= params.checked_from_bits;
#unroll soft_labels
    checked |= any(bitcast<vec4<u32>>(y_$i) > vec4<u32>(MOST_SOFT_LABEL));
#end
    checked |= edge && (edges_are_checked() || is_near_padding(student_max, teacher_max));
#if many_tiles
    // After a huge maximum in an earlier tile, the distance of ordinary values to it may overflow.
    checked |= max((*sums).student_max, (*sums).teacher_max) >= bitcast<f32>(params.checked_from_bits);
#end
    tile_is_kept = !checked;
    if (checked) {
        for (var i = 0u; i < VECTORS_PER_LANE; i++) {
            let vector = start + i * LANES;
            if (vector < row.vectors) {
                observe_checked(sums, row, row.start + vector);
            }
        }
        return;
    }
#if one_tile
    (*sums).student_max = student_max;
    (*sums).teacher_max = teacher_max;
#end
#if many_tiles
    if (student_max > (*sums).student_max || teacher_max > (*sums).teacher_max) {
        *sums = rescale_sums(*sums, student_max, teacher_max);
    }
#end
    kept_student_max = student_max;
#if teacher_row
    kept_teacher_max = teacher_max;
#end
#unroll
    let es_$i = exp2((s_$i - student_max) * student_log2());
#if teacher_row
    let et_$i = exp2((t_$i - teacher_max) * teacher_log2());
#end
    kept_student_$i = es_$i;
#if teacher_row
    kept_teacher_$i = et_$i;
#end
    if (KEEP_LOGITS) {
        kept_student_$i = s_$i;
#if teacher_row
        kept_teacher_$i = t_$i;
#end
    }
#end
#unroll soft_labels
    kept_soft_label_$i = y_$i;
#end
    var tile = sums_from(*sums);
    tile.flags = STUDENT_LIVE | select(TEACHER_LIVE, 0u, LISTED);
#unroll
    add_vector(
        &tile,
        (s_$i - student_max) * student_log2(),
#if teacher_row
        (t_$i - teacher_max) * teacher_log2(),
#end
        es_$i,
#if teacher_row
        et_$i,
#end
        y_$i,
    );
#end
#unroll sums_weighted
    // Vectors behind the end have no columns.
    let column_$i = select(params.classes, first_$i, vector_$i < row.vectors);
    add_weighted_vector(&tile, column_$i, (s_$i - student_max) * student_log2(), et_$i);
#end
#if one_tile
    *sums = tile;
#end
#if many_tiles
    *sums = add_sums(*sums, tile);
#end
}

// Exponentials relative to a row's maximum, of kept values; `scale` is that of the lane's maximum relative to it.
fn kept_exponentials(kept: vec4<f32>, largest: f32, log2: f32, scale: f32) -> vec4<f32> {
    if (KEEP_LOGITS) {
        return exp2((kept - largest) * log2);
    }
    return kept * scale;
}

#if one_tile
fn observe_row(row: Row, invocation: Invocation) -> Sums {
    var sums = sums_identity();
    // The tile ends at the row's end. It may start before the row: such vectors wrap around, and are not below `row.vectors`.
    let start = row.vectors - TILE_VECTORS + invocation.lane;
    if (start + (VECTORS_PER_LANE - 1u) * LANES < row.vectors) {
        observe_tile(&sums, row, start);
    }
    return sums;
}
#end
#if many_tiles
// Each tile is summed separately, and the sums of tiles are added in two levels. Added one by one to the 1 of a row's largest logit, the
// classes of a long flat tail would be rounded away.
fn observe_row(row: Row, invocation: Invocation) -> Sums {
    var all = sums_identity();
    var recent = sums_identity();
    var recent_vectors = 0u;
    let tiles = (row.vectors + TILE_VECTORS - 1u) / TILE_VECTORS;
    for (var tile = 0u; tile < tiles; tile++) {
        // The last tile ends at the row's end, so that the kept tile is full. The first may start before the row:
        // such vectors wrap around, and are not below `row.vectors`.
        let start = row.vectors - (tiles - tile) * TILE_VECTORS + invocation.lane;
        if (start + (VECTORS_PER_LANE - 1u) * LANES < row.vectors) {
            observe_tile(&recent, row, start);
            recent_vectors += VECTORS_PER_LANE;
            if (recent_vectors >= VECTORS_PER_PARTIAL_SUM) {
                all = add_sums(rescale_sums(all, recent.student_max, recent.teacher_max), recent);
                recent = sums_from(recent);
                recent_vectors = 0u;
            }
        }
    }
    return add_sums(rescale_sums(all, recent.student_max, recent.teacher_max), recent);
}
#end
