//! The sums of a tile in the lanes of vectors.
//!
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use super::powers::{half_power, halves};
use super::setup::Setup;
use super::tile::{Ahead, chunks};
use super::vector::Vector;
use crate::moments::{Moment, Moments};

/// Vectors per partial sum of exponentials. Each partial sum is then added to the lane's sum. Two-level summation bounds the rounding
/// error: in one sum with the 1 of the largest logit, each term of a long flat tail could be rounded away.
pub(super) const VECTORS_PER_PARTIAL_SUM: usize = 8;

/// Sums of exponentials and moments. Those of a lane's classes are in that lane. The moments' linear factors are in binary logarithms.
pub(super) struct LaneSums<V> {
    pub student: V,
    pub teacher: V,
    /// Those that are not in the set have no meaning.
    pub moments: [(Moment, V); 15],
}

/// [`lane_sums`] of a set that is not known before the program runs. WebAssembly has one such function, for its size.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
#[cfg_attr(target_arch = "wasm32", inline(never))]
pub(super) fn lane_sums_of_any<V: Vector>(
    s: &[f32],
    t: &[f32],
    maxima: (f32, f32),
    setup: &Setup<'_>,
    set: Moments,
    exps: (&mut [f32], &mut [f32]),
    ahead: [Ahead; 3],
) -> LaneSums<V> {
    lane_sums::<V>(s, t, maxima, setup, set, exps, ahead)
}

/// Sums plain numbers `s` and `t`, whole vectors of them, relative to their maxima. Writes their exponentials to `exps`.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn lane_sums<V: Vector>(
    s: &[f32],
    t: &[f32],
    (student_max, teacher_max): (f32, f32),
    setup: &Setup<'_>,
    set: Moments,
    (es, et): (&mut [f32], &mut [f32]),
    ahead: [Ahead; 3],
) -> LaneSums<V> {
    let has = |moment| set.has(moment);
    let powers = has(Moment::PowerCross) || has(Moment::PowerDifference);
    let (ks, kt) = (V::splat(setup.student_log2), V::splat(setup.teacher_log2));
    let kh = V::splat(setup.hard_log2);
    let [u, v] = setup.rule.shape_numbers;
    // The powers of the two normalisers' sums.
    let plain = u + v == 1.0;
    let halves = halves(u, v).filter(|_| !has(Moment::PowerDifference));
    let (u, v, both) = (V::splat(u), V::splat(v), V::splat(u + v));
    let (ms, mt) = (V::splat(student_max), V::splat(teacher_max));
    let zero = V::splat(0.0);
    let [
        mut zs,
        mut zt,
        mut difference,
        mut soft_moment,
        mut reverse,
        mut teacher_moment,
    ] = [zero; 6];
    let [
        mut cross,
        mut root_cross,
        mut ss,
        mut tt,
        mut student_moment,
    ] = [zero; 5];
    let [
        mut hard,
        mut power_cross,
        mut power_difference,
        mut ps,
        mut pt,
    ] = [zero; 5];
    let [
        mut partial_s,
        mut partial_t,
        mut partial_h,
        mut partial_th,
        mut teacher_hard,
    ] = [zero; 5];
    let [mut partial_x, mut partial_ps, mut partial_pt] = [zero; 3];
    let (es, et) = (es.as_chunks_mut().0, et.as_chunks_mut().0);
    for (i, (((s, t), es), et)) in chunks(s).zip(chunks(t)).zip(es).zip(et).enumerate() {
        if i % VECTORS_PER_PARTIAL_SUM == 0 {
            zs = zs.add(partial_s);
            zt = zt.add(partial_t);
            [partial_s, partial_t] = [zero; 2];
            macro_rules! fold {
                    ($($moment:ident: $partial:ident into $sum:ident;)*) => {
                        $( if has(Moment::$moment) {
                            $sum = $sum.add($partial);
                            $partial = zero;
                        } )*
                    };
                }
            fold! {
                HardSum: partial_h into hard;
                TeacherHardSum: partial_th into teacher_hard;
                PowerCross: partial_x into power_cross;
                StudentPower: partial_ps into ps;
                TeacherPower: partial_pt into pt;
            }
        }
        ahead.iter().for_each(|ahead| ahead.ask::<V>(i));
        let s = V::load(s).sub(ms);
        let ds = s.mul(ks);
        let t = V::load(t).sub(mt);
        let dt = t.mul(kt);
        let (p, q) = (ds.exp2(), dt.exp2());
        p.store(es);
        q.store(et);
        partial_s = partial_s.add(p);
        partial_t = partial_t.add(q);
        if has(Moment::Difference) {
            difference = q.mul_add(dt.sub(ds), difference);
        }
        if has(Moment::TeacherMoment) {
            teacher_moment = q.mul_add(dt, teacher_moment);
        }
        if has(Moment::SoftMoment) {
            soft_moment = q.mul_add(ds, soft_moment);
        }
        if has(Moment::Cross) {
            cross = p.mul_add(q, cross);
        }
        if has(Moment::StudentSquare) {
            ss = p.mul_add(p, ss);
        }
        if has(Moment::TeacherSquare) {
            tt = q.mul_add(q, tt);
        }
        if has(Moment::RootCross) {
            root_cross = root_cross.add(p.mul(q).sqrt());
        }
        if has(Moment::ReverseDifference) {
            reverse = p.mul_add(ds.sub(dt), reverse);
        }
        if has(Moment::StudentMoment) {
            student_moment = p.mul_add(ds, student_moment);
        }
        if has(Moment::HardSum) {
            partial_h = partial_h.add(s.mul(kh).exp2());
        }
        if has(Moment::TeacherHardSum) {
            partial_th = partial_th.add(t.mul(kh).exp2());
        }
        if powers {
            let x = match halves {
                Some([u, v, _]) => half_power(q, u).mul(half_power(p, v)),
                None => dt.mul_add(u, ds.mul(v)).exp2(),
            };
            if has(Moment::PowerCross) {
                partial_x = partial_x.add(x);
            }
            if has(Moment::PowerDifference) {
                power_difference = x.mul_add(dt.sub(ds), power_difference);
            }
        }
        if has(Moment::StudentPower) {
            let x = match halves {
                _ if plain => p,
                Some([.., both]) => half_power(p, both),
                None => ds.mul(both).exp2(),
            };
            partial_ps = partial_ps.add(x);
        }
        if has(Moment::TeacherPower) {
            let x = match halves {
                _ if plain => q,
                Some([.., both]) => half_power(q, both),
                None => dt.mul(both).exp2(),
            };
            partial_pt = partial_pt.add(x);
        }
    }
    LaneSums {
        student: zs.add(partial_s),
        teacher: zt.add(partial_t),
        moments: [
            (Moment::Difference, difference),
            (Moment::SoftMoment, soft_moment),
            (Moment::Cross, cross),
            (Moment::StudentSquare, ss),
            (Moment::TeacherSquare, tt),
            (Moment::RootCross, root_cross),
            (Moment::HardSum, hard.add(partial_h)),
            (Moment::TeacherMoment, teacher_moment),
            (Moment::ReverseDifference, reverse),
            (Moment::StudentMoment, student_moment),
            (Moment::TeacherHardSum, teacher_hard.add(partial_th)),
            (Moment::PowerCross, power_cross.add(partial_x)),
            (Moment::PowerDifference, power_difference),
            (Moment::StudentPower, ps.add(partial_ps)),
            (Moment::TeacherPower, pt.add(partial_pt)),
        ],
    }
}
