// linear: f1 = s - ms, f2 = 1, of the classes that the student does not mask. A row's standard deviation bounds the distances of its logits;
// those below the bound are masked or saturated.

fn shape_terms(p: vec4<f32>, q: vec4<f32>, ds: vec4<f32>, dt: vec4<f32>, decision: Decision) -> vec4<f32> {
    let terms = decision.first_scale * (ds * 0.6931471805599453) + decision.second_scale;
    return select(vec4<f32>(), terms, ds > vec4<f32>(-1e8));
}
