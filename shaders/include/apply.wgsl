// Apply: the gradient of a row from its decision (docs/METHOD.md, section 6). Each logit is loaded once, each gradient element stored once.
//
//   grad_i = student_scale e^(s_i - ms) - teacher_scale e^(t_i - mt) - label_share [i = label] - uniform_share
//
// With soft labels y_i stands for [i = label].
// With weights of classes, the teacher's term and the uniform share of a class are multiplied by its weight.
// With SHAPED, also + hard_scale e^(h_i - mh) + first_scale f1_i + second_scale f2_i; shaders/shapes/ has f1 and f2.
// Sampled tokens have the terms of the student and of the label alone. So have the classes off a list, with the tail's share in those of the
// student; apply_list.wgsl has the terms of the classes on the list.

#import temperatures
#import $SHAPE
#import soft_labels
#import masks
#if listed
#import apply_list
#end

// Returns true if the row has one gradient for all classes: 0 if it is ignored, left out or clamped, else NaN. Its logits are not read.
fn is_filled(flags: u32) -> bool {
    return (flags & (IGNORED | NON_FINITE | INVALID_LABEL | NO_GRADIENT | CLAMPED)) != 0u;
}

fn fill_vectors(row: Row, invocation: Invocation, flags: u32) {
    let is_zero = (flags & (IGNORED | SKIPPED | CLAMPED)) != 0u;
    if (ACCUMULATE && is_zero) {
        return;
    }
    let fill = vec4<u32>(select(params.nan_bits, 0u, is_zero));
    for (var vector = invocation.lane; vector < row.vectors; vector += LANES) {
        store_grad(row.grad, (row.start + vector) * 4u - row.misalignment, fill);
    }
}

// The shares of 4 classes in the smoothed part of the label's distribution, given their logits.
fn uniform_shares(s: vec4<f32>, decision: Decision) -> vec4<f32> {
    let share = vec4<f32>(decision.uniform_share);
    if (SMOOTHING_UNMASKED) {
        return select(share, vec4<f32>(), bitcast<vec4<u32>>(s) == vec4<u32>(0xff800000u));
    }
    return share;
}

// The label's term of 4 classes, given their uniform shares and their part `y` of the soft label. `apply_vector` adds the share of a label.
fn label_terms(uniform: vec4<f32>, y: vec4<f32>, decision: Decision) -> vec4<f32> {
#if soft_labels
    return uniform + decision.label_share * y;
#end
#if hard_labels
    return uniform;
#end
}

// Stores the gradient of 4 classes, given their scaled exponentials and the further terms, and their `label_terms`.
fn apply_vector(row: Row, first: u32, es: vec4<f32>, et: vec4<f32>, label_term: vec4<f32>, decision: Decision) {
    let at_label = vec4<u32>(0u, 1u, 2u, 3u) == vec4<u32>(u32(decision.label) - first);
    var teacher = et;
    var label = label_term;
#if sums_weighted
    let v = bitcast<vec4<f32>>(class_weight_bits(first));
#end
#if soft_weighted
    teacher *= v;
#end
#if smoothing_weighted
    label *= v;
#end
#if hard_labels
    label = select(label, label + decision.label_share, at_label);
#end
#if listed
    var gradient = with_listed(row, first, es, decision) - label;
#end
#if not_listed
    var gradient = es - teacher - label;
#end
#if label_apart
    gradient = select(gradient, vec4<f32>(bitcast<f32>(decision.label_gradient)), at_label);
#end
    store_grad(row.grad, first, bitcast<vec4<u32>>(gradient));
}

#if shaped
// Stores the gradient of 4 classes, given their exponents of 2 (with KEEP_LOGITS) and exponentials, relative to the row's maxima.
fn apply_shaped(row: Row, first: u32, ds: vec4<f32>, dt: vec4<f32>, es: vec4<f32>, et: vec4<f32>, label: vec4<f32>, decision: Decision) {
    let p = es * decision.student_inverse;
    let q = et * decision.teacher_inverse;
    var student = es * decision.student_scale + shape_terms(p, q, ds, dt, decision);
    if (HARD_OWN) {
        student += exp2(ds * hard_ratio()) * decision.hard_scale;
    }
    apply_vector(row, first, student, et * decision.teacher_scale, label, decision);
}
#end

#if sampled
// The terms of the student of 4 classes, given their logits.
fn student_terms(s: vec4<f32>, decision: Decision) -> vec4<f32> {
    let ds = (s - decision.student_max) * student_log2();
    var terms = exp2(ds) * decision.student_scale;
    if (HARD_OWN) {
        // Clamped, because a distance times its ratio may overflow.
        terms += exp2(max(ds, vec4<f32>(-1e37)) * hard_ratio()) * decision.hard_scale;
    }
    return terms;
}
#end
#if listed
// The terms of 4 classes off the list, given their logits.
fn student_terms(s: vec4<f32>, decision: Decision) -> vec4<f32> {
    var terms = exp2((s - tail_student_max) * student_log2()) * tail_scale;
    if (HARD_OWN) {
        let ds = max((s - decision.student_max) * student_log2(), vec4<f32>(-1e37));
        terms += exp2(ds * hard_ratio()) * decision.hard_scale;
    }
    return terms;
}
#end

// Stores the gradient of 4 classes, given their logits.
fn apply_logits(row: Row, first: u32, s: vec4<f32>, t: vec4<f32>, y: vec4<f32>, decision: Decision) {
    let teacher_has = columns_of(first) < vec4<u32>(params.teacher_classes);
#if plain
    let es = exp2((s - decision.student_max) * student_log2()) * decision.student_scale;
    let et = exp2((t - decision.teacher_max) * teacher_log2()) * decision.teacher_scale;
    apply_vector(row, first, es, select(vec4<f32>(), et, teacher_has), label_terms(uniform_shares(s, decision), y, decision), decision);
#end
#if shaped
    // Clamped, because 0 * inf is NaN.
    let lowest = vec4<f32>(-1e37);
    let ds = max((s - decision.student_max) * student_log2(), lowest);
    let dt = select(lowest, max((t - decision.teacher_max) * teacher_log2(), lowest), teacher_has);
    apply_shaped(row, first, ds, dt, exp2(ds), exp2(dt), label_terms(uniform_shares(s, decision), y, decision), decision);
#end
#if student_alone
    apply_vector(row, first, student_terms(s, decision), vec4<f32>(), label_terms(uniform_shares(s, decision), y, decision), decision);
#end
}

// Stores the gradient of vectors 0 .. vectors - 1 of the row's segment, in reverse, because the end was read last.
fn apply_vectors(row: Row, vectors: u32, invocation: Invocation, decision: Decision) {
    let tiles = (vectors + TILE_VECTORS - 1u) / TILE_VECTORS;
    for (var tile = 1u; tile <= tiles; tile++) {
        let start = vectors - tile * TILE_VECTORS + invocation.lane;
        // All loads of a tile precede its first store, because a compiler must not move a load across a store if both buffers may be the same.
#unroll
        let vector_$i = start + $iu * LANES;
        let first_$i = (row.start + min(vector_$i, vectors - 1u)) * 4u - row.misalignment;
        var s_$i = load_student(row.student, first_$i);
#if teacher_row
        var t_$i = load_teacher(row.teacher, first_$i);
#end
        let y_$i = load_soft_label(row.soft_label, first_$i);
#end
#unroll masks_joined
        join_masks(&s_$i, &t_$i, first_$i);
#end
        // The terms precede the conditions, into which compilers would sink the loads.
#unroll plain
        let label_$i = label_terms(uniform_shares(s_$i, decision), y_$i, decision);
        let es_$i = exp2((s_$i - decision.student_max) * student_log2()) * decision.student_scale;
        let et_$i = exp2((t_$i - decision.teacher_max) * teacher_log2()) * decision.teacher_scale;
#end
#unroll plain
        if (vector_$i < vectors) {
            let teacher_has = columns_of(first_$i) < vec4<u32>(params.teacher_classes);
            apply_vector(row, first_$i, es_$i, select(vec4<f32>(), et_$i, teacher_has), label_$i, decision);
        }
#end
#unroll shaped
        if (vector_$i < vectors) {
            apply_logits(row, first_$i, s_$i, t_$i, y_$i, decision);
        }
#end
#unroll student_alone
        let label_$i = label_terms(uniform_shares(s_$i, decision), y_$i, decision);
        let terms_$i = student_terms(s_$i, decision);
#end
#unroll student_alone
        if (vector_$i < vectors) {
            apply_vector(row, first_$i, terms_$i, vec4<f32>(), label_$i, decision);
        }
#end
    }
}
