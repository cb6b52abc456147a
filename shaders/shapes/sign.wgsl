// sign: f1 = p sgn(p - q); the sign is 0 where both are equal up to rounding.

fn shape_terms(p: vec4<f32>, q: vec4<f32>, ds: vec4<f32>, dt: vec4<f32>, decision: Decision) -> vec4<f32> {
    let equal = abs(p - q) <= 4e-6 * max(p, q);
    return decision.first_scale * p * select(sign(p - q), vec4<f32>(), equal);
}
