//! Observe and apply for one row, in blocks that stay in the first-level cache.
//!
//! Elementwise arithmetic is f32, in lanes; the block's sums are merged in f64, so that the error does not grow with the row.
//! Everything here is `inline(always)`: `isa.rs` compiles it once per instruction set.

use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::block::{BLOCK, Scratch, block, chunks, measured, padding};
use super::decide;
use super::lanes::{LANES, exp2, log2, mul_add, sum};
use super::sums::{Sums, exp_block, exponents};
use super::vector::Vector;
use crate::params::checked_from_bits;
use crate::{Config, Decision, GradWrite, RowStats, Similarity, Values, ValuesMut, flags};

/// One row of student and teacher, and what of the configuration concerns observing and applying.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub student: Values<'a>,
    pub teacher: Values<'a>,
    pub label: i32,
    pub config: &'a Config,
}

/// What the careful path notes about the real (not the padding) values of a block.
fn inspect(values: &[f32], live: u32, masked: u32) -> u32 {
    values.iter().fold(0, |found, x| {
        found
            | match x.to_bits() {
                0xff80_0000 => masked,
                b if b & 0x7f80_0000 == 0x7f80_0000 => flags::NON_FINITE,
                _ => live,
            }
    })
}

/// Observe: the statistics of one row, KDR included. With `keep` its exponentials stay for `apply`, if the row is not too long.
#[inline(always)]
pub(super) fn observe<V: Vector>(row: &Row<'_>, keep: bool, scratch: &mut Scratch) -> RowStats {
    let classes = row.student.len();
    let keep = keep && scratch.kept.begin(classes);
    let mut stats = RowStats {
        label: row.label,
        ..RowStats::default()
    };
    if row.label == row.config.ignore_index {
        stats.flags = flags::IGNORED;
        return stats;
    }
    let careful_from = checked_from_bits(row.config);
    let (ks, kt) = exponents(row.config);
    let (s_padding, t_padding) = (padding(careful_from, ks), padding(careful_from, kt));
    let mut sums = Sums::EMPTY;
    for start in (0..classes).step_by(BLOCK) {
        let n = BLOCK.min(classes - start);
        let (s, s_max, s_magnitude) = measured(
            row.student,
            start,
            n,
            careful_from,
            s_padding,
            &mut scratch.student,
        );
        let (t, t_max, t_magnitude) = measured(
            row.teacher,
            start,
            n,
            careful_from,
            t_padding,
            &mut scratch.teacher,
        );
        let s_max = sums.student_max.max(s_max);
        let t_max = sums.teacher_max.max(t_max);
        sums.rescale(s_max, t_max, row.config);
        let exps = if keep {
            scratch.kept.next((sums.student_max, sums.teacher_max))
        } else {
            (&mut scratch.first, &mut scratch.second)
        };
        // Far below a huge maximum of an earlier block usual values need care too: their distance to it may overflow.
        let careful = s_magnitude.max(t_magnitude) >= careful_from
            || s_max.max(t_max) >= f32::from_bits(careful_from);
        if careful {
            sums.flags |= inspect(&s[..n], flags::STUDENT_LIVE, flags::STUDENT_MASKED);
            sums.flags |= inspect(&t[..n], flags::TEACHER_LIVE, 0);
        } else {
            sums.flags |= flags::STUDENT_LIVE | flags::TEACHER_LIVE;
        }
        sums.add_any::<V>((s, t), n, careful, row.config, exps);
    }
    stats.flags = sums.flags;
    let live = flags::STUDENT_LIVE | flags::TEACHER_LIVE;
    if stats.flags & live != live {
        stats.flags |= flags::NON_FINITE;
    }
    match usize::try_from(row.label) {
        Ok(label) if label < classes => stats.label_logit = row.student.get(label),
        _ => stats.flags |= flags::INVALID_LABEL,
    }
    stats.student_max = sums.student_max;
    stats.student_sum = sums.zs as f32;
    stats.teacher_max = sums.teacher_max;
    stats.teacher_sum = sums.zt as f32;
    stats.difference = sums.difference as f32;
    stats.moment = sums.moment as f32;
    stats.cross = sums.cross as f32;
    stats.student_square = sums.student_square as f32;
    stats.teacher_square = sums.teacher_square as f32;
    stats.student_offset = sums.offset as f32;
    stats.masked_mass = sums.masked_mass as f32;
    stats.student_count = sums.offset_count as f32;
    if stats.flags & flags::NON_FINITE != 0 {
        stats.kdr = f32::NAN;
        return stats;
    }
    if row.config.similarity.needs_second_sweep() {
        stats.cross = second_sweep::<V>(row, &stats, scratch) as f32;
    }
    stats.kdr = decide::kdr(&stats, row.config.similarity);
    stats
}

/// The sum that `JensenShannon` (in bits, twice the divergence) or `Overlap` needs, once the normalisers are known.
#[inline(always)]
fn second_sweep<V: Vector>(row: &Row<'_>, stats: &RowStats, scratch: &mut Scratch) -> f64 {
    let classes = row.student.len();
    let jensen_shannon = row.config.similarity == Similarity::JensenShannon;
    let (ks, kt) = exponents(row.config);
    let (inv_zs, inv_zt) = (1.0 / stats.student_sum, 1.0 / stats.teacher_sum);
    let mut total = 0.0;
    for start in (0..classes).step_by(BLOCK) {
        let n = BLOCK.min(classes - start);
        let s = block(row.student, start, n, &mut scratch.student);
        let t = block(row.teacher, start, n, &mut scratch.teacher);
        let (p, q) = (
            &mut scratch.first[..s.len()],
            &mut scratch.second[..t.len()],
        );
        exp_block::<V>(s, stats.student_max, ks, p);
        exp_block::<V>(t, stats.teacher_max, kt, q);
        let terms = &mut scratch.student[..p.len()];
        for ((term, p), q) in terms.iter_mut().zip(&*p).zip(&*q) {
            let (p, q) = (p * inv_zs, q * inv_zt);
            *term = if jensen_shannon {
                divergence::<V>(p, q)
            } else if p < q {
                p
            } else {
                q
            };
        }
        let mut acc = [0.0; LANES];
        for term in chunks(terms) {
            for i in 0..LANES {
                acc[i] += term[i];
            }
        }
        total += sum(acc);
    }
    total
}

/// `p log2(2p / (p + q)) + q log2(2q / (p + q))`. Ratios to the mean keep the error of equal rows at rounding: log2(1) = 0.
/// Subnormal probabilities are too small to matter and would break log2.
#[inline(always)]
fn divergence<V: Vector>(p: f32, q: f32) -> f32 {
    let tiny = f32::MIN_POSITIVE;
    let scale = 2.0 / if p + q > tiny { p + q } else { tiny };
    let (rp, rq) = (p * scale, q * scale);
    let lp = p * log2::<V>(if rp > tiny { rp } else { tiny });
    let lq = q * log2::<V>(if rq > tiny { rq } else { tiny });
    (if p > tiny { lp } else { 0.0 }) + (if q > tiny { lq } else { 0.0 })
}

/// Apply: one row of the gradient. With `kept` it is the row that was just observed.
#[inline(always)]
pub(super) fn apply<V: Vector>(
    row: &Row<'_>,
    decision: &Decision,
    gradient: ValuesMut<'_>,
    kept: bool,
    scratch: &mut Scratch,
) {
    let classes = row.student.len();
    let mut gradient = gradient;
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
    for start in (0..classes).step_by(BLOCK) {
        let n = BLOCK.min(classes - start);
        let out = match &mut gradient {
            ValuesMut::F32(g) if !accumulate => &mut g[start..start + n],
            _ => &mut scratch.first[..n],
        };
        let exponents = exponents(row.config);
        match scratch.kept.block(start / BLOCK).filter(|_| kept) {
            Some((es, et, maxima)) => {
                grad_of_kept::<V>(&es[..n], &et[..n], maxima, decision, exponents, out);
            }
            None => {
                let s = &block(row.student, start, n, &mut scratch.student)[..n];
                let t = &block(row.teacher, start, n, &mut scratch.teacher)[..n];
                grad_block::<V>(s, t, decision, exponents, out);
            }
        }
        let label = (decision.label as usize).wrapping_sub(start);
        if label < n {
            out[label] -= decision.label_share;
        }
        let values = &mut scratch.first[..n];
        match (gradient.part(start..start + n), accumulate) {
            (ValuesMut::F32(_), false) => {}
            (ValuesMut::F32(g), true) => g.iter_mut().zip(values).for_each(|(g, x)| *g += *x),
            (ValuesMut::F16(g), _) => {
                if accumulate {
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

/// The gradient of a block, all but the label's share.
#[inline(always)]
fn grad_block<V: Vector>(
    s: &[f32],
    t: &[f32],
    d: &Decision,
    (ks, kt): (f32, f32),
    out: &mut [f32],
) {
    for ((o, s), t) in out.iter_mut().zip(s).zip(t) {
        let es = exp2::<V>((s - d.student_max) * ks);
        let et = exp2::<V>((t - d.teacher_max) * kt);
        *o = mul_add::<V>(es, d.student_scale, -(et * d.teacher_scale)) - d.uniform_share;
    }
}

/// The same from exponentials relative to the maxima at their time.
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
