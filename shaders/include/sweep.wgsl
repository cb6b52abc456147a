// The second sweep of the similarities that need a row's normalisers first (docs/METHOD.md, section 4).

// p log2(p scale), scale = 2 / (p+q). For equal rows the ratio to the mean is 1, and the error is that of log2 near 1. 0 log 0 = 0.
fn divergence_term(p: vec4<f32>, scale: vec4<f32>) -> vec4<f32> {
    let tiny = vec4<f32>(1.2e-38);
    return select(vec4<f32>(), p * log2(max(p * scale, tiny)), p > tiny);
}

// The sum of the terms of four classes.
fn similarity_term(p: vec4<f32>, q: vec4<f32>) -> f32 {
    if (SIMILARITY == OVERLAP) {
        return total(min(p, q));
    }
    let scale = 2.0 / max(p + q, vec4<f32>(1.2e-38));
    return total(divergence_term(p, scale) + divergence_term(q, scale));
}

// One lane's sum over vectors 0 .. vectors - 1 of the row's segment, in reverse, because the end was read last.
fn sweep_vectors(row: Row, vectors: u32, invocation: Invocation, sums: Sums) -> f32 {
    var all = 0.0;
    var recent = 0.0;
    let p_scale = 1.0 / sums.student_sum;
    let q_scale = 1.0 / sums.teacher_sum;
    for (var done = invocation.lane; done < vectors; done += LANES) {
        let first = (row.start + vectors - 1u - done) * 4u - row.misalignment;
        let s = load_student(row.student, first);
        let t = load_teacher(row.teacher, first);
        let s_ok = columns_of(first) < vec4<u32>(params.classes);
        let t_ok = columns_of(first) < vec4<u32>(params.teacher_classes);
        let p = select(vec4<f32>(), exp2((s - sums.student_max) * params.student_log2) * p_scale, s_ok);
        let q = select(vec4<f32>(), exp2((t - sums.teacher_max) * params.teacher_log2) * q_scale, t_ok);
        recent += similarity_term(p, q);
        if ((done / LANES) % VECTORS_PER_PARTIAL_SUM == VECTORS_PER_PARTIAL_SUM - 1u) {
            all += recent;
            recent = 0.0;
        }
    }
    return all + recent;
}
