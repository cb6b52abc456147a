//! Apply: one row of the gradient, in tiles that stay in the first-level cache.
//!
//! All functions are `inline(always)`: `isa.rs` compiles them for each instruction set.

use half::bf16;

use super::compiled::{Compiled, RowToWrite};
use super::element::{Element, narrow};
use super::row::Row;
use super::scalar::{exp_tile, exp2};
use super::setup::Setup;
use super::shapes;
use super::tile::{Kept, Scratch, TILE, tile, widen};
use super::vector::Vector;
use crate::rule::Shape;
use crate::{Decision, GradWrite, Standardization, Values, ValuesMut, flags};

/// Apply: one row of the gradient. `kept` is true if this row was observed last, so that `scratch` may hold its exponentials.
#[inline(always)]
pub(super) fn apply<V: Compiled>(
    row: &Row<'_>,
    decision: &Decision,
    mut gradient: ValuesMut<'_>,
    kept: bool,
    scratch: &mut Scratch,
) {
    if is_filled(row, decision, &mut gradient) {
        return;
    }
    let accumulate = row.setup.config.grad_write == GradWrite::Accumulate;
    let standardized = row.setup.config.standardization != Standardization::None;
    let own = standardized.then(|| {
        let (student, teacher) = (decision.student_deviation, decision.teacher_deviation);
        row.setup.of_row(student, teacher)
    });
    let row = &Row {
        setup: own.as_ref().unwrap_or(row.setup),
        ..*row
    };
    let setup = row.setup;
    let plain = setup.shape == Shape::Plain
        && !setup.own_hard
        && !setup.rule.sampled
        && decision.owns_label == 0
        && setup.summed_weights().is_none();
    let to_write = RowToWrite {
        row,
        decision,
        gradient,
        kept,
        listed: &[],
        scratch,
    };
    match (accumulate, plain) {
        (true, true) => V::write_tiles::<true, true>(to_write),
        (false, true) => V::write_tiles::<false, true>(to_write),
        (true, false) => V::write_tiles::<true, false>(to_write),
        (false, false) => V::write_tiles::<false, false>(to_write),
    }
}

/// Fills the gradient of a row that has one number for all classes: 0 if it is ignored, left out or clamped, NaN without a finite result.
/// Returns false for other rows.
pub(super) fn is_filled(row: &Row<'_>, decision: &Decision, gradient: &mut ValuesMut<'_>) -> bool {
    let result = decision.result.flags;
    if result & (flags::IGNORED | flags::SKIPPED | flags::CLAMPED) != 0 {
        if row.setup.config.grad_write != GradWrite::Accumulate {
            fill(gradient, 0.0);
        }
        return true;
    }
    let broken = flags::NON_FINITE | flags::INVALID_LABEL | flags::NO_GRADIENT;
    if result & broken != 0 {
        fill(gradient, f32::NAN);
        return true;
    }
    false
}

/// Writes the gradient of a row with finite results, or adds it to the memory. Constants say which, and whether the gradient has no terms
/// beyond those of the method: a branch per tile cost 5 % at 1,000 classes. WebAssembly has one function for all constants, for its size.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
#[cfg_attr(target_arch = "wasm32", inline(never))]
pub(super) fn write_tiles<V: Vector>((accumulate, plain): (bool, bool), to_write: RowToWrite<'_>) {
    let RowToWrite {
        row,
        decision,
        mut gradient,
        kept,
        mut listed,
        scratch,
    } = to_write;
    let (setup, classes) = (row.setup, row.student.len());
    let is_direct = plain && !accumulate && !cfg!(target_arch = "wasm32");
    if is_direct && write_directly::<V>(row, decision, kept.then_some(&scratch.kept), &mut gradient)
    {
        return;
    }
    let student_alone = row.student_alone();
    let from_probabilities = matches!(setup.shape, Shape::Mixture | Shape::Below);
    let weights = if plain { None } else { setup.summed_weights() };
    let whole = decision;
    let equal = shapes::without_weights(decision, setup.weights);
    let decision = if weights.is_some() { &equal } else { whole };
    for start in (0..classes).step_by(TILE) {
        let n = TILE.min(classes - start);
        match &gradient {
            ValuesMut::F32(g) => prefetch_behind::<V, _>(&g[start..start + n]),
            ValuesMut::F16(g) => prefetch_behind::<V, _>(&g[start..start + n]),
            ValuesMut::Bf16(g) => prefetch_behind::<V, _>(&g[start..start + n]),
        }
        let out = match &mut gradient {
            ValuesMut::F32(g) if !accumulate => &mut g[start..start + n],
            _ => &mut scratch.first[..n],
        };
        let kept = scratch.kept.tile(start / TILE).filter(|_| kept);
        match kept {
            Some((es, _, (student_max, _))) if !plain && student_alone => {
                let scale = exp2::<V>((student_max - decision.student_max) * setup.student_log2);
                shapes::student_of_kept::<V>(&es[..n], scale, decision, out);
            }
            None if !plain && student_alone => {
                let s = &tile::<V>(row.student, start, n, &mut scratch.student)[..n];
                shapes::student::<V>(s, decision, setup, out);
            }
            Some((es, et, maxima)) if plain || setup.shape == Shape::Plain => {
                shapes::plain_of_kept::<V, _>(
                    &es[..n],
                    &et[..n],
                    scales::<V>(setup, decision, maxima),
                    decision,
                    out,
                );
            }
            Some((es, et, maxima)) if from_probabilities => {
                let scales = scales::<V>(setup, decision, maxima);
                shapes::of_probabilities::<V>(&es[..n], &et[..n], scales, decision, setup, out);
            }
            _ => {
                let s = &tile::<V>(row.student, start, n, &mut scratch.student)[..n];
                let t = &tile::<V>(row.teacher, start, n, &mut scratch.teacher)[..n];
                if plain {
                    shapes::plain::<V, _, _>(s, t, decision, setup, out);
                } else if from_probabilities {
                    let (es, et) = (&mut scratch.second[..n], &mut scratch.third[..n]);
                    exp_tile::<V>(s, decision.student_max, setup.student_log2, es);
                    exp_tile::<V>(t, decision.teacher_max, setup.teacher_log2, et);
                    shapes::of_probabilities::<V>(es, et, (1.0, 1.0), decision, setup, out);
                } else {
                    shapes::of_logits::<V>(s, t, decision, setup, out);
                }
            }
        }
        if !plain && setup.own_hard && decision.hard_scale != 0.0 {
            let s = &tile::<V>(row.student, start, n, &mut scratch.student)[..n];
            shapes::add_hard::<V>(s, decision, setup, out);
        }
        if setup.smooths_unmasked && decision.result.flags & flags::STUDENT_MASKED != 0 {
            let s = &tile::<V>(row.student, start, n, &mut scratch.student)[..n];
            shapes::return_uniform(s, decision, out);
        }
        if let Some(weights) = weights {
            let t = &tile::<V>(row.teacher, start, n, &mut scratch.teacher)[..n];
            shapes::subtract_weighted::<V>(t, &weights[start..start + n], whole, setup, out);
        }
        let label = (decision.label as usize).wrapping_sub(start);
        if let Some(soft_label) = row.soft_label {
            let y = &tile::<V>(soft_label, start, n, &mut scratch.student)[..n];
            for (out, y) in out.iter_mut().zip(y) {
                *out -= decision.label_share * y;
            }
        } else if label < n {
            if !plain && decision.owns_label != 0 {
                out[label] = decision.label_gradient;
            } else {
                out[label] -= decision.label_share;
            }
        }
        if !plain && !listed.is_empty() {
            let here = listed.partition_point(|(class, _)| (*class as usize) < start + n);
            let (here, later) = listed.split_at(here);
            here.iter()
                .for_each(|(class, value)| out[*class as usize - start] = *value);
            listed = later;
        }
        let part = gradient.part(start..start + n);
        store_tile::<V>(part, accumulate, &mut scratch.first, &mut scratch.second);
    }
}

/// Writes the gradient of a row without further terms in its storage, without tiles in f32. Returns false if the row needs them. In
/// WebAssembly every row goes through tiles, for the size of a module.
#[inline(always)]
fn write_directly<V: Vector>(
    row: &Row<'_>,
    decision: &Decision,
    kept: Option<&Kept>,
    gradient: &mut ValuesMut<'_>,
) -> bool {
    let returns_uniform =
        row.setup.smooths_unmasked && decision.result.flags & flags::STUDENT_MASKED != 0;
    if row.soft_label.is_some() || row.ids.is_some() || returns_uniform {
        return false;
    }
    let kept = kept.filter(|kept| kept.tile(0).is_some());
    match (kept, row.student, row.teacher, gradient) {
        (Some(kept), _, _, ValuesMut::F32(g)) => write_kept::<V, _>(row, decision, kept, g),
        (Some(kept), _, _, ValuesMut::F16(g)) => write_kept::<V, _>(row, decision, kept, g),
        (Some(kept), _, _, ValuesMut::Bf16(g)) => write_kept::<V, _>(row, decision, kept, g),
        _ if row.teacher.len() < row.student.len() => return false,
        (None, Values::F32(s), Values::F32(t), ValuesMut::F32(g)) => {
            write_logits::<V, _>((s, t), row, decision, g);
        }
        (None, Values::F16(s), Values::F16(t), ValuesMut::F16(g)) => {
            write_logits::<V, _>((s, t), row, decision, g);
        }
        (None, Values::Bf16(s), Values::Bf16(t), ValuesMut::Bf16(g)) => {
            write_logits::<V, _>((s, t), row, decision, g);
        }
        _ => return false,
    }
    true
}

/// [`write_directly`] from the row's exponentials.
#[inline(always)]
fn write_kept<V: Vector, T: Element>(
    row: &Row<'_>,
    decision: &Decision,
    kept: &Kept,
    gradient: &mut [T],
) {
    for (at, out) in gradient.chunks_mut(TILE).enumerate() {
        let (es, et, maxima) = kept.tile(at).expect("all tiles of the row are kept");
        let scales = scales::<V>(row.setup, decision, maxima);
        shapes::plain_of_kept::<V, _>(&es[..out.len()], &et[..out.len()], scales, decision, out);
        let label = (decision.label as usize).wrapping_sub(at * TILE);
        if label < out.len() {
            let (es, et) = (&es[label..=label], &et[label..=label]);
            let mut value = [0.0];
            shapes::plain_of_kept::<V, _>(es, et, scales, decision, &mut value);
            out[label] = T::rounded(value[0] - decision.label_share);
        }
    }
}

/// [`write_directly`] from logits in the gradient's storage.
#[inline(always)]
fn write_logits<V: Vector, T: Element>(
    (s, t): (&[T], &[T]),
    row: &Row<'_>,
    decision: &Decision,
    gradient: &mut [T],
) {
    shapes::plain::<V, _, _>(s, t, decision, row.setup, gradient);
    let label = decision.label as usize;
    if label < gradient.len() {
        let (s, t) = (&s[label..=label], &t[label..=label]);
        let mut value = [0.0];
        shapes::plain::<V, _, _>(s, t, decision, row.setup, &mut value);
        gradient[label] = T::rounded(value[0] - decision.label_share);
    }
}

/// The factors of kept exponentials, which are relative to the maxima up to their tile.
#[inline(always)]
fn scales<V: Vector>(setup: &Setup<'_>, decision: &Decision, maxima: (f32, f32)) -> (f32, f32) {
    (
        exp2::<V>((maxima.0 - decision.student_max) * setup.student_log2),
        exp2::<V>((maxima.1 - decision.teacher_max) * setup.teacher_log2),
    )
}

/// Writes a tile of the gradient, or adds it to the memory. f32 that are not added are there already. `values` and `there` have whole
/// vectors.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn store_tile<V: Vector>(
    gradient: ValuesMut<'_>,
    accumulate: bool,
    values: &mut [f32],
    there: &mut [f32],
) {
    match (gradient, accumulate) {
        (ValuesMut::F32(_), false) => {}
        (ValuesMut::F32(g), true) => g.iter_mut().zip(values).for_each(|(g, x)| *g += *x),
        (ValuesMut::F16(g), _) => {
            if accumulate {
                widen::<V, _>(g, there);
                let sums = values[..g.len()].iter_mut().zip(there);
                sums.for_each(|(x, g)| *x += *g);
            }
            narrow::<V, _>(values, g);
        }
        (ValuesMut::Bf16(g), false) => narrow::<V, _>(values, g),
        // The sum may be NaN.
        (ValuesMut::Bf16(g), true) => {
            for (g, x) in g.iter_mut().zip(values) {
                *g = bf16::from_f32(g.to_f32() + *x);
            }
        }
    }
}

/// Asks for the memory behind a tile of the gradient, which the next tile or row fills.
#[inline(always)]
fn prefetch_behind<V: Vector, T>(tile: &[T]) {
    for line in tile.chunks(LINE / size_of::<T>()) {
        V::prefetch_to_write(line.as_ptr().wrapping_add(tile.len()));
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

pub(super) fn fill(gradient: &mut ValuesMut<'_>, value: f32) {
    match gradient {
        ValuesMut::F32(g) => g.fill(value),
        ValuesMut::F16(g) => g.fill(half::f16::from_f32(value)),
        ValuesMut::Bf16(g) => g.fill(bf16::from_f32(value)),
    }
}
