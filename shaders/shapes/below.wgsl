// below: f1 = p where it is below q, half of it where both are equal, else 0. The sign of p - q instead of it would cancel where p and q
// hardly overlap.

#import below

fn shape_terms(p: vec4<f32>, q: vec4<f32>, ds: vec4<f32>, dt: vec4<f32>, decision: Decision) -> vec4<f32> {
    return decision.first_scale * below(p, q);
}
