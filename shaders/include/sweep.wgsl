// The second sweep: sums over the normalised probabilities p and q (docs/METHOD.md, section 4; docs/LOSSES.md).
// Components: the similarity's sum, the divergence's first and second sum.

#import below
#import masks
#import sweep_sums

// p log2(p scale), scale = 2 / (p+q). For equal rows the ratio to the mean is 1, and the error is that of log2 near 1. 0 log 0 = 0.
fn divergence_term(p: vec4<f32>, scale: vec4<f32>) -> vec4<f32> {
    let tiny = vec4<f32>(1.2e-38);
    return select(vec4<f32>(), p * log2(max(p * scale, tiny)), p > tiny);
}

// The sum of the similarity's terms of four classes.
fn similarity_term(p: vec4<f32>, q: vec4<f32>) -> f32 {
    if (SIMILARITY == OVERLAP) {
        return total(min(p, q));
    }
    let scale = 2.0 / max(p + q, vec4<f32>(1.2e-38));
    return total(divergence_term(p, scale) + divergence_term(q, scale));
}

// p (v - ln(1 + v)) with v = share (q - p) / p: the terms of KL(p, m), m = share q + own p, plus m - p, whose sum is 0. share + own = 1.
// Each term is at least 0, so that nearly equal rows keep their digits.
fn mixture_term(p: vec4<f32>, q: vec4<f32>, share: f32, own: f32) -> vec4<f32> {
    let tiny = vec4<f32>(1.2e-38);
    let v = share * (q - p) / max(p, tiny);
    let series = v * v * (0.5 - v * (0.33333334 - v * (0.25 - v * (0.2 - v * 0.16666667))));
    let near = abs(v) < vec4<f32>(0.05);
    // The sum of two positive numbers: 1 + v would cancel where q is 0 and `own` is small.
    let direct = v - log(max(own + share * q / max(p, tiny), tiny));
    return select(share * q, p * select(direct, series, near), p > tiny);
}

// One of the divergence's sums, over four classes.
fn sweep_term(which: u32, p: vec4<f32>, q: vec4<f32>) -> f32 {
    let share = params.shape_first;
    let own = params.shape_second;
    if (which == SWEEP_MIXTURE_STUDENT) {
        return total(mixture_term(p, q, share, own));
    }
    if (which == SWEEP_MIXTURE_TEACHER) {
        return total(mixture_term(q, p, own, share));
    }
    if (which == SWEEP_MIXTURE_PRODUCT) {
        return total(p * (q / max(share * q + own * p, vec4<f32>(1.2e-38))));
    }
    if (which == SWEEP_OVERLAP) {
        return total(min(p, q));
    }
    if (which == SWEEP_BELOW_MASS) {
        return total(below(p, q));
    }
    return 0.0;
}

// The sums of four classes.
fn sweep_terms(p: vec4<f32>, q: vec4<f32>) -> vec3<f32> {
    var sums = vec3<f32>();
    if (SWEEPS_SIMILARITY) {
        sums.x = similarity_term(p, q);
    }
    sums.y = sweep_term(SWEEP_FIRST, p, q);
    sums.z = sweep_term(SWEEP_SECOND, p, q);
    return sums;
}

// The sums of the four classes from column `first`; `scales` are the inverse normalisers of p and q.
fn sweep_vector(row: Row, first: u32, sums: Sums, scales: vec2<f32>) -> vec3<f32> {
    var s = load_student(row.student, first);
    var t = load_teacher(row.teacher, first);
#if masks_joined
    join_masks(&s, &t, first);
#end
    let s_ok = columns_of(first) < vec4<u32>(params.classes);
    let t_ok = columns_of(first) < vec4<u32>(params.teacher_classes);
    let p = select(vec4<f32>(), exp2((s - sums.student_max) * student_log2()) * scales.x, s_ok);
    let q = select(vec4<f32>(), exp2((t - sums.teacher_max) * teacher_log2()) * scales.y, t_ok);
    return sweep_terms(p, q);
}

// One lane's sums over vectors 0 .. vectors - 1 of the row's segment, in reverse, because the end was read last.
fn sweep_vectors(row: Row, vectors: u32, invocation: Invocation, sums: Sums) -> vec3<f32> {
    var all = vec3<f32>();
    var recent = vec3<f32>();
    let scales = 1.0 / vec2<f32>(sums.student_sum, sums.teacher_sum);
    for (var done = invocation.lane; done < vectors; done += LANES) {
        let first = (row.start + vectors - 1u - done) * 4u - row.misalignment;
        recent += sweep_vector(row, first, sums, scales);
        if ((done / LANES) % VECTORS_PER_PARTIAL_SUM == VECTORS_PER_PARTIAL_SUM - 1u) {
            all += recent;
            recent = vec3<f32>();
        }
    }
    return all + recent;
}
