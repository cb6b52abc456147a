//! The gradient of a tile, without the label, for each shape.
//!
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use super::mixture;
use super::scalar::{exp2, mul_add};
use super::second_sweep::below;
use super::setup::Setup;
use super::vector::Vector;
use crate::Decision;
use crate::rule::Shape;

/// The gradient of a tile with the shape `Plain`, from logits.
#[inline(always)]
pub(super) fn plain<V: Vector>(
    s: &[f32],
    t: &[f32],
    d: &Decision,
    setup: &Setup<'_>,
    out: &mut [f32],
) {
    let (ks, kt) = (setup.student_log2, setup.teacher_log2);
    for ((o, s), t) in out.iter_mut().zip(s).zip(t) {
        let es = exp2::<V>((s - d.student_max) * ks);
        let et = exp2::<V>((t - d.teacher_max) * kt);
        *o = mul_add::<V>(es, d.student_scale, -(et * d.teacher_scale)) - d.uniform_share;
    }
}

/// The gradient of a tile with the shape `Plain`, from exponentials that are `scales` times too small.
#[inline(always)]
pub(super) fn plain_of_kept<V: Vector>(
    es: &[f32],
    et: &[f32],
    scales: (f32, f32),
    d: &Decision,
    out: &mut [f32],
) {
    let (s_scale, t_scale) = (d.student_scale * scales.0, d.teacher_scale * scales.1);
    for ((o, es), et) in out.iter_mut().zip(es).zip(et) {
        *o = mul_add::<V>(*es, s_scale, -(et * t_scale)) - d.uniform_share;
    }
}

/// The gradient of a tile from probabilities that are normalised by `scales`, for the shapes that use nothing else.
#[inline(always)]
pub(super) fn of_probabilities<V: Vector>(
    es: &[f32],
    et: &[f32],
    scales: (f32, f32),
    d: &Decision,
    setup: &Setup<'_>,
    out: &mut [f32],
) {
    let (s_scale, t_scale) = (d.student_scale * scales.0, d.teacher_scale * scales.1);
    let (p_scale, q_scale) = (d.student_inverse * scales.0, d.teacher_inverse * scales.1);
    let [a, b] = setup.shape_numbers;
    let (first, second) = (d.first_scale, d.second_scale);
    let mut each = |terms: &dyn Fn(f32, f32) -> f32| {
        for ((o, es), et) in out.iter_mut().zip(es).zip(et) {
            let plain = mul_add::<V>(*es, s_scale, -(et * t_scale)) - d.uniform_share;
            *o = plain + terms(es * p_scale, et * q_scale);
        }
    };
    match setup.shape {
        Shape::Sign => each(&|p, q| first * below(p, q)),
        _ if second == 0.0 => each(&|p, q| first * mixture::log_ratio::<V>(p, q, a, b)),
        _ if first == 0.0 => each(&|p, q| second * mixture::product(p, q, a, b)),
        _ => each(&|p, q| {
            let log = first * mixture::log_ratio::<V>(p, q, a, b);
            mul_add::<V>(second, mixture::product(p, q, a, b), log)
        }),
    }
}

/// The gradient of a tile with a shape that needs logits, because a probability may have underflowed.
#[inline(always)]
pub(super) fn of_logits<V: Vector>(
    s: &[f32],
    t: &[f32],
    d: &Decision,
    setup: &Setup<'_>,
    out: &mut [f32],
) {
    match setup.shape {
        Shape::LogRatio => log_ratio::<V>(s, t, d, setup, out),
        Shape::Power => power::<V>(s, t, d, setup, out),
        _ => plain::<V>(s, t, d, setup, out),
    }
}

#[inline(always)]
fn log_ratio<V: Vector>(s: &[f32], t: &[f32], d: &Decision, setup: &Setup<'_>, out: &mut [f32]) {
    let (ks, kt) = (setup.student_log2, setup.teacher_log2);
    let inverses = f64::from(d.student_inverse) / f64::from(d.teacher_inverse);
    let log_inverses = inverses.log2() as f32;
    // In binary logarithms, of `e^(s - ms)`.
    let first = d.first_scale * d.student_inverse * std::f32::consts::LN_2;
    for ((o, s), t) in out.iter_mut().zip(s).zip(t) {
        let ds = (s - d.student_max) * ks;
        let dt = (t - d.teacher_max) * kt;
        let (es, et) = (exp2::<V>(ds), exp2::<V>(dt));
        // Below, p is 0. The teacher's distance is exact, because a class that it considers impossible has a large term.
        let ds = if ds > -1e4 { ds } else { -1e4 };
        let dt = if dt > f32::MIN { dt } else { f32::MIN };
        let scale = mul_add::<V>(first, (ds - dt) + log_inverses, d.student_scale);
        *o = mul_add::<V>(es, scale, -(et * d.teacher_scale)) - d.uniform_share;
    }
}

#[inline(always)]
fn power<V: Vector>(s: &[f32], t: &[f32], d: &Decision, setup: &Setup<'_>, out: &mut [f32]) {
    let (ks, kt) = (setup.student_log2, setup.teacher_log2);
    let [u, v] = setup.shape_numbers;
    let log = |inverse: f32| f64::from(inverse).log2() as f32;
    let (log_s, log_t) = (log(d.student_inverse), log(d.teacher_inverse));
    for ((o, s), t) in out.iter_mut().zip(s).zip(t) {
        let ds = (s - d.student_max) * ks;
        let dt = (t - d.teacher_max) * kt;
        let (es, et) = (exp2::<V>(ds), exp2::<V>(dt));
        let plain = mul_add::<V>(es, d.student_scale, -(et * d.teacher_scale)) - d.uniform_share;
        // Logarithms of p and q.
        let (lp, lq) = (ds + log_s, dt + log_t);
        let first = d.first_scale * exp2::<V>(u * lq + v * lp);
        *o = plain + mul_add::<V>(d.second_scale, exp2::<V>((u + v) * lp), first);
    }
}

/// Adds the hard part at its own temperature.
#[inline(always)]
pub(super) fn add_hard<V: Vector>(s: &[f32], d: &Decision, setup: &Setup<'_>, out: &mut [f32]) {
    for (o, s) in out.iter_mut().zip(s) {
        let e = exp2::<V>((s - d.student_max) * setup.hard_log2);
        *o = mul_add::<V>(e, d.hard_scale, *o);
    }
}
