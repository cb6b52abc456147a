// power: f1 = q^u p^v, f2 = p^(u + v), from the logits, because powers of probabilities that underflow need not.

fn shape_terms(p: vec4<f32>, q: vec4<f32>, ds: vec4<f32>, dt: vec4<f32>, decision: Decision) -> vec4<f32> {
    let u = params.shape_first;
    let v = params.shape_second;
    let log_p = ds + log2(decision.student_inverse);
    let log_q = dt + log2(decision.teacher_inverse);
    return decision.first_scale * exp2(u * log_q + v * log_p) + decision.second_scale * exp2((u + v) * log_p);
}
