// log_ratio: f1 = p ln(p / q), from the logits, because q may have underflowed.

#import log_sum

fn shape_terms(p: vec4<f32>, q: vec4<f32>, ds: vec4<f32>, dt: vec4<f32>, decision: Decision) -> vec4<f32> {
    let offset = log_sum(decision.student_inverse / decision.teacher_inverse);
    return decision.first_scale * select(vec4<f32>(), p * ((ds - dt) * 0.6931471805599453 + offset), p > vec4<f32>());
}
