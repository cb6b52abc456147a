//! The second sweep: sums over the probabilities of a row, which need its normalisers.
//!
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use std::f32::consts::LOG2_E;

use super::element::in_vectors;
use super::lanes::{LANES, sum};
use super::mixture;
use super::row::Row;
use super::tile::{Scratch, TILE, Tile, chunks, tile};
use super::vector::Vector;
use crate::rule::SweepSum;
use crate::{RowStats, Similarity};

/// Probabilities `p` and `q` with this relative difference count as equal: rounding must not decide which is larger.
const EQUAL: f32 = 4e-6;

/// `p` if it is below `q`, half of it if both are equal, else 0.
#[inline(always)]
pub(super) fn below(p: f32, q: f32) -> f32 {
    let larger = if p > q { p } else { q };
    let below = if p < q { p } else { 0.0 };
    if (p - q).abs() > EQUAL * larger {
        below
    } else {
        0.5 * p
    }
}

/// Fills in the sums of the second sweep that similarity and divergence need.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn second_sweep<V: Vector>(row: &Row<'_>, stats: &mut RowStats, scratch: &mut Scratch) {
    let classes = row.student.len();
    let setup = row.setup;
    let (inv_zs, inv_zt) = (1.0 / stats.student_sum, 1.0 / stats.teacher_sum);
    let [a, b] = setup.rule.shape_numbers;
    let mut of_similarity = 0.0;
    let mut sums = [0.0; 2];
    for start in (0..classes).step_by(TILE) {
        let n = TILE.min(classes - start);
        let s = tile::<V>(row.student, start, n, &mut scratch.student);
        let t = tile::<V>(row.teacher, start, n, &mut scratch.teacher);
        let p = &mut scratch.first[..s.len()];
        let q = &mut scratch.second[..t.len()];
        probabilities::<V>(s, stats.student_max, setup.student_log2, inv_zs, p);
        probabilities::<V>(t, stats.teacher_max, setup.teacher_log2, inv_zt, q);
        let (p, q, terms) = (&*p, &*q, &mut scratch.student);
        of_similarity += match setup.config.similarity {
            Similarity::JensenShannon => add(p, q, terms, |p, q| {
                let twice = mixture::divergence::<V>(p, q, 0.5, 0.5)
                    + mixture::divergence::<V>(q, p, 0.5, 0.5);
                twice * LOG2_E
            }),
            Similarity::Overlap => add(p, q, terms, smaller),
            _ => 0.0,
        };
        for (total, sum) in sums.iter_mut().zip(setup.rule.sweep) {
            *total += match sum {
                SweepSum::MixtureStudent => {
                    add(p, q, terms, |p, q| mixture::divergence::<V>(p, q, a, b))
                }
                SweepSum::MixtureTeacher => {
                    add(q, p, terms, |q, p| mixture::divergence::<V>(q, p, b, a))
                }
                SweepSum::MixtureProduct => add(p, q, terms, |p, q| mixture::product(p, q, a, b)),
                SweepSum::Overlap => add(p, q, terms, smaller),
                SweepSum::BelowMass => add(p, q, terms, below),
            };
        }
    }
    stats.similarity_sum = of_similarity as f32;
    [stats.sweep_first, stats.sweep_second] = sums.map(|sum| sum as f32);
}

/// `2^((x - max) k) inverse` of every value.
#[inline(always)]
fn probabilities<V: Vector>(x: &[f32], max: f32, k: f32, inverse: f32, out: &mut [f32]) {
    let [max, k, inverse] = [max, k, inverse].map(V::splat);
    in_vectors!(V, out = |x| x.sub(max).mul(k).exp2().mul(inverse));
}

/// The sum of a tile's terms. Compilers vectorise the elementwise loop; the sum is in lanes.
#[inline(always)]
fn add(p: &[f32], q: &[f32], terms: &mut Tile, term: impl Fn(f32, f32) -> f32) -> f64 {
    let terms = &mut terms[..p.len()];
    for ((o, p), q) in terms.iter_mut().zip(p).zip(q) {
        *o = term(*p, *q);
    }
    let mut acc = [0.0; LANES];
    for term in chunks(terms) {
        for i in 0..LANES {
            acc[i] += term[i];
        }
    }
    sum(acc)
}

#[inline(always)]
fn smaller(p: f32, q: f32) -> f32 {
    if p < q { p } else { q }
}
