//! Observe: the statistics of one row, in tiles that stay in the first-level cache.
//!
//! Elementwise arithmetic is f32, in lanes. The sums of a tile are merged in f64, so that the error does not grow with the length of the row.
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use super::lanes::{LANES, sum};
use super::row::Row;
use super::scalar::log2;
use super::similarity;
use super::sums::{Sums, exp_tile, exponents};
use super::tile::{Scratch, TILE, chunks, measured, padding, tile};
use super::vector::Vector;
use crate::params::checked_from_bits;
use crate::{RowStats, Similarity, flags};

/// Flags of the values of a tile, without its padding, on the checked path.
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

/// Observe: the statistics of one row, KDR included. With `keep`, the exponentials of a row of
/// at most `MOST_KEPT` tiles stay in `scratch` for `apply`.
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
    let checked_from = checked_from_bits(row.config);
    let (ks, kt) = exponents(row.config);
    let (s_padding, t_padding) = (padding(checked_from, ks), padding(checked_from, kt));
    let mut sums = Sums::EMPTY;
    for start in (0..classes).step_by(TILE) {
        let n = TILE.min(classes - start);
        let (s, s_max, s_magnitude) = measured(
            row.student,
            start,
            n,
            checked_from,
            s_padding,
            &mut scratch.student,
        );
        let (t, t_max, t_magnitude) = measured(
            row.teacher,
            start,
            n,
            checked_from,
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
        // After an earlier tile with a huge maximum, ordinary values need the checked path too: their distance to it may overflow.
        let checked = s_magnitude.max(t_magnitude) >= checked_from
            || s_max.max(t_max) >= f32::from_bits(checked_from);
        if checked {
            sums.flags |= inspect(&s[..n], flags::STUDENT_LIVE, flags::STUDENT_MASKED);
            sums.flags |= inspect(&t[..n], flags::TEACHER_LIVE, 0);
        } else {
            sums.flags |= flags::STUDENT_LIVE | flags::TEACHER_LIVE;
        }
        sums.add_any::<V>((s, t), n, checked, row.config, exps);
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
    stats.kdr = similarity::kdr(&stats, row.config.similarity);
    stats
}

/// The sum of the second sweep for `JensenShannon` (twice the divergence, in bits) or `Overlap`. It needs the normalisers.
#[inline(always)]
fn second_sweep<V: Vector>(row: &Row<'_>, stats: &RowStats, scratch: &mut Scratch) -> f64 {
    let classes = row.student.len();
    let jensen_shannon = row.config.similarity == Similarity::JensenShannon;
    let (ks, kt) = exponents(row.config);
    let (inv_zs, inv_zt) = (1.0 / stats.student_sum, 1.0 / stats.teacher_sum);
    let mut total = 0.0;
    for start in (0..classes).step_by(TILE) {
        let n = TILE.min(classes - start);
        let s = tile(row.student, start, n, &mut scratch.student);
        let t = tile(row.teacher, start, n, &mut scratch.teacher);
        let (p, q) = (
            &mut scratch.first[..s.len()],
            &mut scratch.second[..t.len()],
        );
        exp_tile::<V>(s, stats.student_max, ks, p);
        exp_tile::<V>(t, stats.teacher_max, kt, q);
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

/// `p log2(2p / (p + q)) + q log2(2q / (p + q))`. With ratios to the mean, the divergence of equal rows is exactly 0: log2(1) = 0.
/// Subnormal probabilities are left out: they are too small to matter, and this log2 needs normal numbers.
#[inline(always)]
fn divergence<V: Vector>(p: f32, q: f32) -> f32 {
    let tiny = f32::MIN_POSITIVE;
    let scale = 2.0 / if p + q > tiny { p + q } else { tiny };
    let (rp, rq) = (p * scale, q * scale);
    let lp = p * log2::<V>(if rp > tiny { rp } else { tiny });
    let lq = q * log2::<V>(if rq > tiny { rq } else { tiny });
    (if p > tiny { lp } else { 0.0 }) + (if q > tiny { lq } else { 0.0 })
}
