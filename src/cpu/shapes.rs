//! The gradient of a tile, without the label, for each shape.
//!
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use super::element::{Element, in_vectors};
use super::mixture;
use super::scalar::{exp2, mul_add};
use super::second_sweep::below;
use super::setup::Setup;
use super::vector::Vector;
use crate::Decision;
use crate::rule::{ClassWeights, Shape};

/// The gradient of a tile with the shape `Plain`, from logits.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn plain<V: Vector, T: Element, O: Element>(
    s: &[T],
    t: &[T],
    d: &Decision,
    setup: &Setup<'_>,
    out: &mut [O],
) {
    let (ks, kt) = (setup.student_log2, setup.teacher_log2);
    let [ms, mt, ks, kt] = [d.student_max, d.teacher_max, ks, kt].map(V::splat);
    let [s_scale, t_scale] = [d.student_scale, -d.teacher_scale].map(V::splat);
    let uniform = V::splat(d.uniform_share);
    in_vectors!(
        V,
        out = |s, t| {
            let (es, et) = (s.sub(ms).mul(ks).exp2(), t.sub(mt).mul(kt).exp2());
            es.mul_add(s_scale, et.mul(t_scale)).sub(uniform)
        }
    );
}

/// The gradient of a tile with the shape `Plain`, from exponentials that are `scales` times too small.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn plain_of_kept<V: Vector, O: Element>(
    es: &[f32],
    et: &[f32],
    scales: (f32, f32),
    d: &Decision,
    out: &mut [O],
) {
    let (s_scale, t_scale) = (d.student_scale * scales.0, d.teacher_scale * scales.1);
    let (s_scale, t_scale) = (V::splat(s_scale), V::splat(-t_scale));
    let uniform = V::splat(d.uniform_share);
    in_vectors!(
        V,
        out = |es, et| es.mul_add(s_scale, et.mul(t_scale)).sub(uniform)
    );
}

/// The gradient of a tile without terms of the teacher, from logits.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn student<V: Vector>(s: &[f32], d: &Decision, setup: &Setup<'_>, out: &mut [f32]) {
    let [ms, ks] = [d.student_max, setup.student_log2].map(V::splat);
    let [scale, uniform] = [d.student_scale, d.uniform_share].map(V::splat);
    in_vectors!(
        V,
        out = |s| s.sub(ms).mul(ks).exp2().mul(scale).sub(uniform)
    );
}

/// The gradient of a tile without terms of the teacher, from exponentials that are `scale` times too small.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn student_of_kept<V: Vector>(es: &[f32], scale: f32, d: &Decision, out: &mut [f32]) {
    let scale = d.student_scale * scale;
    for (o, es) in out.iter_mut().zip(es) {
        *o = mul_add::<V>(*es, scale, -d.uniform_share);
    }
}

/// Fills `out` with a function of both inputs.
#[inline(always)]
fn fill(x: &[f32], y: &[f32], out: &mut [f32], value: impl Fn(f32, f32) -> f32) {
    for ((o, x), y) in out.iter_mut().zip(x).zip(y) {
        *o = value(*x, *y);
    }
}

/// The gradient of a tile from exponentials that are `scales` times too small, for the shapes that need only probabilities.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
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
    let plain = |es: f32, et: f32| mul_add::<V>(es, s_scale, -(et * t_scale)) - d.uniform_share;
    let f1 = |p: f32, q: f32| first * mixture::log_ratio::<V>(p, q, a, b);
    let f2 = |p: f32, q: f32| second * mixture::product(p, q, a, b);
    match setup.shape {
        Shape::Below => fill(es, et, out, |es, et| {
            plain(es, et) + first * below(es * p_scale, et * q_scale)
        }),
        _ if second == 0.0 => fill(es, et, out, |es, et| {
            plain(es, et) + f1(es * p_scale, et * q_scale)
        }),
        _ if first == 0.0 => fill(es, et, out, |es, et| {
            plain(es, et) + f2(es * p_scale, et * q_scale)
        }),
        _ => fill(es, et, out, |es, et| {
            let (p, q) = (es * p_scale, et * q_scale);
            plain(es, et) + f1(p, q) + f2(p, q)
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
        Shape::Linear => linear::<V>(s, t, d, setup, out),
        _ => plain::<V, _, _>(s, t, d, setup, out),
    }
}

#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn log_ratio<V: Vector>(s: &[f32], t: &[f32], d: &Decision, setup: &Setup<'_>, out: &mut [f32]) {
    let (ks, kt) = (setup.student_log2, setup.teacher_log2);
    let inverses = f64::from(d.student_inverse) / f64::from(d.teacher_inverse);
    let log_inverses = inverses.log2() as f32;
    // In binary logarithms, of `e^(s - ms)`.
    let first = d.first_scale * d.student_inverse * std::f32::consts::LN_2;
    let teacher = |t: f32| exp2::<V>((t - d.teacher_max) * kt) * d.teacher_scale;
    let student = |s: f32, t: f32| {
        let ds = (s - d.student_max) * ks;
        let dt = (t - d.teacher_max) * kt;
        let es = exp2::<V>(ds);
        // Below, p is 0. The teacher's distance is exact, because a class that it considers impossible has a large term.
        let ds = if ds > -1e4 { ds } else { -1e4 };
        let dt = if dt > f32::MIN { dt } else { f32::MIN };
        let scale = mul_add::<V>(first, (ds - dt) + log_inverses, d.student_scale);
        // The scale may overflow where both mask the class.
        let scale = if es > 0.0 { scale } else { 0.0 };
        mul_add::<V>(es, scale, -d.uniform_share)
    };
    if d.teacher_scale == 0.0 {
        fill(s, t, out, student);
    } else {
        fill(s, t, out, |s, t| student(s, t) - teacher(t));
    }
}

#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn power<V: Vector>(s: &[f32], t: &[f32], d: &Decision, setup: &Setup<'_>, out: &mut [f32]) {
    let (ks, kt) = (setup.student_log2, setup.teacher_log2);
    let [u, v] = setup.shape_numbers;
    let log = |inverse: f32| f64::from(inverse).log2() as f32;
    let (log_s, log_t) = (log(d.student_inverse), log(d.teacher_inverse));
    let distances = |s: f32, t: f32| ((s - d.student_max) * ks, (t - d.teacher_max) * kt);
    let plain = |ds: f32, p_scale: f32| mul_add::<V>(exp2::<V>(ds), p_scale, -d.uniform_share);
    let f1 = |ds: f32, dt: f32| d.first_scale * exp2::<V>(u * (dt + log_t) + v * (ds + log_s));
    let f2 = |ds: f32| d.second_scale * exp2::<V>((u + v) * (ds + log_s));
    let teacher = |dt: f32| d.teacher_scale * exp2::<V>(dt);
    if d.teacher_scale != 0.0 {
        fill(s, t, out, |s, t| {
            let (ds, dt) = distances(s, t);
            plain(ds, d.student_scale) - teacher(dt) + (f1(ds, dt) + f2(ds))
        });
    } else if d.second_scale == 0.0 || u + v == 1.0 {
        // `p^(u + v)` is p.
        let p_scale = d.student_scale + d.second_scale * d.student_inverse;
        fill(s, t, out, |s, t| {
            let (ds, dt) = distances(s, t);
            plain(ds, p_scale) + f1(ds, dt)
        });
    } else {
        fill(s, t, out, |s, t| {
            let (ds, dt) = distances(s, t);
            plain(ds, d.student_scale) + (f1(ds, dt) + f2(ds))
        });
    }
}

#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn linear<V: Vector>(s: &[f32], t: &[f32], d: &Decision, setup: &Setup<'_>, out: &mut [f32]) {
    let (ks, kt) = (setup.student_log2, setup.teacher_log2);
    // In binary logarithms.
    let first = d.first_scale * std::f32::consts::LN_2;
    fill(s, t, out, |s, t| {
        let ds = (s - d.student_max) * ks;
        let et = exp2::<V>((t - d.teacher_max) * kt);
        let terms = mul_add::<V>(first, ds, d.second_scale);
        // The standard deviation bounds the distances of the row's logits. Those below are masked or saturated.
        let terms = if ds > -1e8 { terms } else { 0.0 };
        let plain = mul_add::<V>(exp2::<V>(ds), d.student_scale, -(et * d.teacher_scale));
        plain - d.uniform_share + terms
    });
}

/// Adds the hard part at its own temperature.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn add_hard<V: Vector>(s: &[f32], d: &Decision, setup: &Setup<'_>, out: &mut [f32]) {
    let [ms, kh] = [d.student_max, setup.hard_log2].map(V::splat);
    let scale = V::splat(d.hard_scale);
    in_vectors!(V, out += |s| s.sub(ms).mul(kh).exp2().mul(scale));
}

/// Adds the uniform share again at the classes that the student masks.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn return_uniform(s: &[f32], d: &Decision, out: &mut [f32]) {
    for (o, s) in out.iter_mut().zip(s) {
        if *s == f32::NEG_INFINITY {
            *o += d.uniform_share;
        }
    }
}

/// The decision without the coefficients that weights of classes multiply.
#[inline(always)]
pub(super) fn without_weights(d: &Decision, weights: ClassWeights) -> Decision {
    Decision {
        teacher_scale: if weights.soft { 0.0 } else { d.teacher_scale },
        uniform_share: if weights.smoothing {
            0.0
        } else {
            d.uniform_share
        },
        ..*d
    }
}

/// Subtracts the terms that weights of classes multiply.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn subtract_weighted<V: Vector>(
    t: &[f32],
    weights: &[f32],
    d: &Decision,
    setup: &Setup<'_>,
    out: &mut [f32],
) {
    let uniform = if setup.weights.smoothing {
        d.uniform_share
    } else {
        0.0
    };
    if !setup.weights.soft {
        for (o, v) in out.iter_mut().zip(weights) {
            *o -= v * uniform;
        }
        return;
    }
    for ((o, t), v) in out.iter_mut().zip(t).zip(weights) {
        let et = exp2::<V>((t - d.teacher_max) * setup.teacher_log2);
        *o -= v * (et * d.teacher_scale + uniform);
    }
}
