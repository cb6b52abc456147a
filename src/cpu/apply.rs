//! Apply: one row of the gradient, in tiles that stay in the first-level cache.
//!
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::row::Row;
use super::scalar::{exp2, mul_add};
use super::sums::exponents;
use super::tile::{Scratch, TILE, tile};
use super::vector::Vector;
use crate::{Decision, GradWrite, ValuesMut, flags};

/// Apply: one row of the gradient. `kept` is true if this row was observed last, so that `scratch` may hold its exponentials.
#[inline(always)]
pub(super) fn apply<V: Vector>(
    row: &Row<'_>,
    decision: &Decision,
    gradient: ValuesMut<'_>,
    kept: bool,
    scratch: &mut Scratch,
) {
    let accumulate = row.config.grad_write == GradWrite::Accumulate;
    let result = decision.result.flags;
    if result & flags::IGNORED != 0 {
        if !accumulate {
            fill(gradient, 0.0);
        }
        return;
    }
    if result & (flags::NON_FINITE | flags::INVALID_LABEL) != 0 {
        return fill(gradient, f32::NAN);
    }
    match accumulate {
        true => write_tiles::<V, true>(row, decision, gradient, kept, scratch),
        false => write_tiles::<V, false>(row, decision, gradient, kept, scratch),
    }
}

/// Writes the gradient of a row with finite results, or adds it to the memory. A constant says which: a branch per tile cost 5 % at
/// 1,000 classes.
#[inline(always)]
fn write_tiles<V: Vector, const ACCUMULATE: bool>(
    row: &Row<'_>,
    decision: &Decision,
    mut gradient: ValuesMut<'_>,
    kept: bool,
    scratch: &mut Scratch,
) {
    let classes = row.student.len();
    for start in (0..classes).step_by(TILE) {
        let n = TILE.min(classes - start);
        let out = match &mut gradient {
            ValuesMut::F32(g) if !ACCUMULATE => &mut g[start..start + n],
            _ => &mut scratch.first[..n],
        };
        let exponents = exponents(row.config);
        match scratch.kept.tile(start / TILE).filter(|_| kept) {
            Some((es, et, maxima)) => {
                grad_of_kept::<V>(&es[..n], &et[..n], maxima, decision, exponents, out);
            }
            None => {
                let s = &tile(row.student, start, n, &mut scratch.student)[..n];
                let t = &tile(row.teacher, start, n, &mut scratch.teacher)[..n];
                grad_tile::<V>(s, t, decision, exponents, out);
            }
        }
        let label = (decision.label as usize).wrapping_sub(start);
        if label < n {
            out[label] -= decision.label_share;
        }
        let values = &mut scratch.first[..n];
        match (gradient.part(start..start + n), ACCUMULATE) {
            (ValuesMut::F32(_), false) => {}
            (ValuesMut::F32(g), true) => g.iter_mut().zip(values).for_each(|(g, x)| *g += *x),
            (ValuesMut::F16(g), _) => {
                if ACCUMULATE {
                    g.convert_to_f32_slice(&mut scratch.second[..n]);
                    let there = scratch.second.iter();
                    values.iter_mut().zip(there).for_each(|(x, g)| *x += g);
                }
                g.convert_from_f32_slice(values);
            }
            (ValuesMut::Bf16(g), false) => {
                for (g, x) in g.iter_mut().zip(values) {
                    *g = bf16::from_bits(round_to_bf16(x.to_bits()));
                }
            }
            // The sum may be NaN.
            (ValuesMut::Bf16(g), true) => {
                for (g, x) in g.iter_mut().zip(values) {
                    *g = bf16::from_f32(g.to_f32() + *x);
                }
            }
        }
    }
}

/// The gradient of a tile without the label's share.
#[inline(always)]
fn grad_tile<V: Vector>(s: &[f32], t: &[f32], d: &Decision, (ks, kt): (f32, f32), out: &mut [f32]) {
    for ((o, s), t) in out.iter_mut().zip(s).zip(t) {
        let es = exp2::<V>((s - d.student_max) * ks);
        let et = exp2::<V>((t - d.teacher_max) * kt);
        *o = mul_add::<V>(es, d.student_scale, -(et * d.teacher_scale)) - d.uniform_share;
    }
}

/// The gradient of a tile from kept exponentials, relative to `student_max` and `teacher_max`.
#[inline(always)]
fn grad_of_kept<V: Vector>(
    es: &[f32],
    et: &[f32],
    (student_max, teacher_max): (f32, f32),
    d: &Decision,
    (ks, kt): (f32, f32),
    out: &mut [f32],
) {
    let s_scale = d.student_scale * exp2::<V>((student_max - d.student_max) * ks);
    let t_scale = d.teacher_scale * exp2::<V>((teacher_max - d.teacher_max) * kt);
    for ((o, es), et) in out.iter_mut().zip(es).zip(et) {
        *o = mul_add::<V>(*es, s_scale, -(et * t_scale)) - d.uniform_share;
    }
}

/// The upper half of a finite f32, rounded to nearest, ties to even.
#[inline(always)]
fn round_to_bf16(bits: u32) -> u16 {
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

fn fill(gradient: ValuesMut<'_>, value: f32) {
    match gradient {
        ValuesMut::F32(g) => g.fill(value),
        ValuesMut::F16(g) => g.fill(half::f16::from_f32(value)),
        ValuesMut::Bf16(g) => g.fill(bf16::from_f32(value)),
    }
}
