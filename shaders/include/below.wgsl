// p where it is below q, half of it where both are equal up to rounding, else 0.
fn below(p: vec4<f32>, q: vec4<f32>) -> vec4<f32> {
    let equal = abs(p - q) <= 4e-6 * max(p, q);
    return select(select(vec4<f32>(), p, p < q), 0.5 * p, equal);
}
