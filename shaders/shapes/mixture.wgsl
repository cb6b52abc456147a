// mixture: f1 = p ln(p / m), f2 = p q / m, with m = a q + b p, a + b = 1.

fn shape_terms(p: vec4<f32>, q: vec4<f32>, ds: vec4<f32>, dt: vec4<f32>, decision: Decision) -> vec4<f32> {
    let tiny = vec4<f32>(1.2e-38);
    let share = params.shape_first;
    let own = params.shape_second;
    // ln(p / m) = - ln(1 + v). Near 0 the absolute error of `log` may be larger than the value, so a series is used there.
    let v = share * (q - p) / max(p, tiny);
    let series = v * (1.0 - v * (0.5 - v * (0.33333334 - v * (0.25 - v * 0.2))));
    let log_ratio = select(log(max(own + share * q / max(p, tiny), tiny)), series, abs(v) < vec4<f32>(0.03));
    let f1 = select(vec4<f32>(), -p * log_ratio, p > tiny);
    let f2 = p * (q / max(share * q + own * p, tiny));
    return decision.first_scale * f1 + decision.second_scale * f2;
}
