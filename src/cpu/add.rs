//! Adds a tile of logits to the sums of a row: elementwise arithmetic in lanes of f32, the sums of the tile in f64.
//!
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use super::compiled::{Compiled, PlainTile};
use super::element::Element;
use super::lane_sums::{Columns, LaneSums, VECTORS_PER_PARTIAL_SUM, lane_sums, lane_sums_of_any};
use super::lanes::{LANES, sum};
use super::scalar::{exp_tile, exp2, mul_add};
use super::setup::Setup;
use super::sums::Sums;
use super::tile::{Ahead, Tile, chunks};
use super::vector::Vector;
use crate::moments::{Moment, Moments};
use crate::{Similarity, Values};

/// Moments that do not belong to the loops over vectors: they need the tile's length or the checked path.
const APART: Moments = Moments::of(&[
    Moment::StudentOffset,
    Moment::StudentCount,
    Moment::UnseenMass,
    Moment::Agreement,
    Moment::WeightedTeacher,
    Moment::WeightedMasked,
    Moment::WeightedSoft,
    Moment::WeightSum,
    Moment::MaskedWeight,
    Moment::WeightedOffset,
    Moment::SoftLabelSum,
    Moment::SoftLabelMoment,
]);

impl Sums {
    /// Adds the sums of a tile of plain numbers.
    #[cfg_attr(not(target_arch = "wasm32"), inline(always))]
    fn add_lanes<V: Vector>(&mut self, sums: LaneSums<V>, set: Moments) {
        self.zs += sums.student.sum();
        self.zt += sums.teacher.sum();
        for (moment, lanes) in sums.moments {
            if set.has(moment) {
                self.gather(moment, lanes.sum());
            }
        }
    }

    /// Adds a tile with padding, infinities, NaN or huge values.
    #[cfg_attr(not(target_arch = "wasm32"), inline(always))]
    fn add_checked<V: Vector>(
        &mut self,
        s: &[f32],
        t: &[f32],
        setup: &Setup<'_>,
        set: Moments,
        (es, et): (&mut Tile, &mut Tile),
    ) {
        let (ks, kt, kh) = (setup.student_log2, setup.teacher_log2, setup.hard_log2);
        let [u, v] = setup.rule.shape_numbers;
        let (ms, mt) = (self.student_max, self.teacher_max);
        let (es, et) = (&mut es[..s.len()], &mut et[..t.len()]);
        exp_tile::<V>(s, ms, ks, es);
        exp_tile::<V>(t, mt, kt, et);
        let zero = [0.0; LANES];
        let [mut zs, mut zt, mut masked, mut unseen] = [zero; 4];
        let [mut partial_s, mut partial_t] = [zero; 2];
        let mut sums = [zero; Moment::ALL.len()];
        let all = chunks(s).zip(chunks(t)).zip(chunks(es)).zip(chunks(et));
        for (n, (((s, t), es), et)) in all.enumerate() {
            if n % VECTORS_PER_PARTIAL_SUM == 0 {
                for i in 0..LANES {
                    zs[i] += partial_s[i];
                    zt[i] += partial_t[i];
                }
                [partial_s, partial_t] = [zero; 2];
            }
            // Logarithms of the weights, in binary. -inf and NaN become finite; the sums of a row with NaN are not used. Those that a
            // linear factor subtracts from are exact, because the loss of a class that the other side considers impossible is large.
            let [mut ds, mut dt, mut ds_near, mut dt_near] = [zero; 4];
            let [mut seen_s, mut seen_t] = [zero; 2];
            for i in 0..LANES {
                partial_s[i] += es[i];
                partial_t[i] += et[i];
                let student_hidden = s[i] == f32::NEG_INFINITY;
                let teacher_hidden = t[i] == f32::NEG_INFINITY;
                masked[i] += if student_hidden { et[i] } else { 0.0 };
                seen_t[i] = if student_hidden { 0.0 } else { et[i] };
                unseen[i] += if teacher_hidden { es[i] } else { 0.0 };
                seen_s[i] = if teacher_hidden { 0.0 } else { es[i] };
                let (x, y) = ((s[i] - ms) * ks, (t[i] - mt) * kt);
                let (x, y) = (
                    if x > f32::MIN { x } else { f32::MIN },
                    if y > f32::MIN { y } else { f32::MIN },
                );
                ds[i] = if student_hidden { 0.0 } else { x };
                dt[i] = if teacher_hidden { 0.0 } else { y };
                ds_near[i] = if x > -1e4 { x } else { -1e4 };
                dt_near[i] = if y > -1e4 { y } else { -1e4 };
            }
            macro_rules! add {
                ($moment:ident, |$i:ident, $sum:ident| $term:expr) => {
                    if set.has(Moment::$moment) {
                        let sums = &mut sums[Moment::$moment as usize];
                        for $i in 0..LANES {
                            let $sum = sums[$i];
                            sums[$i] = $term;
                        }
                    }
                };
            }
            let fused = |a: f32, b: f32, sum: f32| mul_add::<V>(a, b, sum);
            add!(Difference, |i, sum| fused(
                seen_t[i],
                dt_near[i] - ds[i],
                sum
            ));
            add!(TeacherMoment, |i, sum| fused(seen_t[i], dt_near[i], sum));
            add!(SoftMoment, |i, sum| fused(seen_t[i], ds[i], sum));
            add!(Cross, |i, sum| fused(es[i], et[i], sum));
            add!(StudentSquare, |i, sum| fused(es[i], es[i], sum));
            add!(TeacherSquare, |i, sum| fused(et[i], et[i], sum));
            add!(RootCross, |i, sum| sum + (es[i] * et[i]).sqrt());
            add!(ReverseDifference, |i, sum| fused(
                seen_s[i],
                ds_near[i] - dt[i],
                sum
            ));
            add!(StudentMoment, |i, sum| fused(es[i], ds_near[i], sum));
            add!(HardSum, |i, sum| sum + exp2::<V>((s[i] - ms) * kh));
            add!(TeacherHardSum, |i, sum| sum + exp2::<V>((t[i] - mt) * kh));
            let power = |i: usize| {
                let x = exp2::<V>(u * ((t[i] - mt) * kt) + v * ((s[i] - ms) * ks));
                let both = s[i] > f32::NEG_INFINITY && t[i] > f32::NEG_INFINITY;
                if both { x } else { 0.0 }
            };
            add!(PowerCross, |i, sum| sum + power(i));
            add!(PowerDifference, |i, sum| fused(
                power(i),
                dt[i] - ds[i],
                sum
            ));
            add!(StudentPower, |i, sum| sum
                + exp2::<V>((u + v) * ((s[i] - ms) * ks)));
            add!(TeacherPower, |i, sum| sum
                + exp2::<V>((u + v) * ((t[i] - mt) * kt)));
        }
        self.zs += sum(zs) + sum(partial_s);
        self.zt += sum(zt) + sum(partial_t);
        self.masked_mass += sum(masked);
        for moment in set.iter() {
            self.gather(moment, sum(sums[moment as usize]));
        }
        if setup.moments.has(Moment::UnseenMass) {
            self.gather(Moment::UnseenMass, sum(unseen));
        }
    }

    /// Adds a tile's distances from the maximum and their number, for label smoothing. Masked classes are left out.
    #[cfg_attr(not(target_arch = "wasm32"), inline(always))]
    fn add_offsets(&mut self, s: &[f32], n: usize, setup: &Setup<'_>) {
        let ms = self.student_max;
        let (whole, rest) = s[..n].as_chunks::<LANES>();
        let [mut offset, mut count] = [[0.0f32; LANES]; 2];
        let mut add = |i: usize, s: f32| {
            let visible = s > f32::NEG_INFINITY;
            offset[i] += if visible { s - ms } else { 0.0 };
            count[i] += if visible { 1.0 } else { 0.0 };
        };
        for lanes in whole {
            for (i, s) in lanes.iter().enumerate() {
                add(i, *s);
            }
        }
        for (i, s) in rest.iter().enumerate() {
            add(i, *s);
        }
        self.add_to(
            Moment::StudentOffset,
            sum(offset) / setup.student_temperature,
        );
        self.add_to(Moment::StudentCount, sum(count));
    }

    /// Adds a tile of `n` values of the student and their padding, for sampled tokens.
    #[cfg_attr(not(target_arch = "wasm32"), inline(always))]
    pub fn add_student<V: Vector>(
        &mut self,
        s: &[f32],
        n: usize,
        setup: &Setup<'_>,
        es: &mut Tile,
    ) {
        let (ms, ks, kh) = (self.student_max, setup.student_log2, setup.hard_log2);
        let es = &mut es[..s.len()];
        exp_tile::<V>(s, ms, ks, es);
        let zero = [0.0; LANES];
        let [mut zs, mut hard, mut moment] = [zero; 3];
        let [mut partial_s, mut partial_h] = [zero; 2];
        for (n, (s, es)) in chunks(s).zip(chunks(es)).enumerate() {
            if n % VECTORS_PER_PARTIAL_SUM == 0 {
                for i in 0..LANES {
                    zs[i] += partial_s[i];
                    hard[i] += partial_h[i];
                }
                [partial_s, partial_h] = [zero; 2];
            }
            for i in 0..LANES {
                partial_s[i] += es[i];
            }
            if setup.moments.has(Moment::HardSum) {
                for i in 0..LANES {
                    partial_h[i] += exp2::<V>((s[i] - ms) * kh);
                }
            }
            if setup.moments.has(Moment::StudentMoment) {
                for i in 0..LANES {
                    let ds = (s[i] - ms) * ks;
                    let ds = if ds > -1e4 { ds } else { -1e4 };
                    moment[i] = mul_add::<V>(es[i], ds, moment[i]);
                }
            }
        }
        self.zs += sum(zs) + sum(partial_s);
        self.gather(Moment::HardSum, sum(hard) + sum(partial_h));
        self.gather(Moment::StudentMoment, sum(moment));
        if setup.moments.has(Moment::StudentOffset) {
            self.add_offsets(s, n, setup);
        }
    }

    /// Adds the number of classes that have both maxima.
    fn add_agreement(&mut self, (s, t): (&[f32], &[f32]), n: usize) {
        let peak = |(s, t): (&f32, &f32)| *s == self.student_max && *t == self.teacher_max;
        let count = s[..n].iter().zip(t).filter(|pair| peak(*pair)).count();
        self.add_to(Moment::Agreement, count as f64);
    }

    /// Adds the moments with the weights of classes, given the teacher's exponentials.
    #[cfg_attr(not(target_arch = "wasm32"), inline(always))]
    fn add_class_weights(&mut self, s: &[f32], et: &[f32], weights: &[f32], setup: &Setup<'_>) {
        const BLOCK: usize = VECTORS_PER_PARTIAL_SUM * LANES;
        let (ms, ks) = (self.student_max, setup.student_log2);
        let blocks = s.chunks(BLOCK).zip(et.chunks(BLOCK));
        for ((s, et), weights) in blocks.zip(weights.chunks(BLOCK)) {
            let mut sums = [[0.0f32; LANES]; 6];
            let vectors = s.chunks(LANES).zip(et.chunks(LANES));
            for ((s, et), weights) in vectors.zip(weights.chunks(LANES)) {
                for (i, ((s, et), v)) in s.iter().zip(et).zip(weights).enumerate() {
                    let hidden = *s == f32::NEG_INFINITY;
                    let x = (s - ms) * ks;
                    let x = if x > f32::MIN { x } else { f32::MIN };
                    let ds = if hidden { 0.0 } else { x };
                    let (seen, masked) = if hidden { (0.0, *v) } else { (*v, 0.0) };
                    sums[0][i] += seen * et;
                    sums[1][i] += masked * et;
                    sums[2][i] += seen * et * ds;
                    sums[3][i] += seen;
                    sums[4][i] += masked;
                    sums[5][i] += seen * ds;
                }
            }
            let moments = [
                Moment::WeightedTeacher,
                Moment::WeightedMasked,
                Moment::WeightedSoft,
                Moment::WeightSum,
                Moment::MaskedWeight,
                Moment::WeightedOffset,
            ];
            for (moment, lanes) in moments.into_iter().zip(sums) {
                if setup.moments.has(moment) {
                    self.gather(moment, sum(lanes));
                }
            }
        }
    }

    /// Adds a tile of plain numbers, without sums that need more than its exponentials.
    #[cfg_attr(not(target_arch = "wasm32"), inline(always))]
    pub fn add_plain<V: Vector, T: Element>(&mut self, tile: PlainTile<'_, T>, setup: &Setup<'_>) {
        let PlainTile {
            columns,
            exps: (es, et),
            ahead,
        } = tile;
        let set = setup.moments.without(APART);
        let maxima = (self.student_max, self.teacher_max);
        let exps = (&mut es[..], &mut et[..]);
        // The loop of a constant set computes nothing else. Sets that are not listed share one loop that asks for every moment.
        macro_rules! sets {
            ($($set:ident),*) => {
                match set.bits() {
                    $( $set => {
                        let set = const { Moments::from_bits($set) };
                        self.add_lanes::<V>(lane_sums(columns, maxima, setup, set, exps, ahead), set);
                    } )*
                    _ => self.add_lanes::<V>(lane_sums_of_any(columns, maxima, setup, set, exps, ahead), set),
                }
            };
        }
        // In WebAssembly the others share the loop too, for its size.
        #[cfg(not(target_arch = "wasm32"))]
        sets!(COSINE, BHATTACHARYYA, EXP_NEG_KL, OTHER);
        #[cfg(target_arch = "wasm32")]
        sets!(COSINE);
    }

    /// [`add_plain`](Self::add_plain) of numbers in one storage, with the padding of their last vector.
    #[inline(always)]
    pub fn add_stored<V: Compiled>(
        &mut self,
        (s, t): (Values<'_>, Values<'_>),
        padding: [f32; 2],
        setup: &Setup<'_>,
        exps: (&mut Tile, &mut Tile),
        ahead: [Ahead; 3],
    ) {
        macro_rules! of {
            ($($storage:ident),*) => {
                match (s, t) {
                    $( (Values::$storage(student), Values::$storage(teacher)) => {
                        let columns = Columns { student, teacher, padding };
                        V::add_plain(self, PlainTile { columns, exps, ahead }, setup);
                    } )*
                    _ => unreachable!("both have one storage"),
                }
            };
        }
        of!(F32, F16, Bf16);
    }

    /// Adds a tile of `n` values and their padding. `weights` are those of their classes, if sums need them.
    #[cfg_attr(not(target_arch = "wasm32"), inline(always))]
    pub fn add_any<V: Compiled>(
        &mut self,
        (s, t): (&[f32], &[f32]),
        n: usize,
        checked: bool,
        setup: &Setup<'_>,
        ((es, et), ahead): ((&mut Tile, &mut Tile), [Ahead; 3]),
        weights: Option<&[f32]>,
    ) {
        let set = setup.moments.without(APART);
        let exps = (&mut *es, &mut *et);
        if checked {
            self.add_checked::<V>(s, t, setup, set, exps);
        } else {
            let columns = Columns::whole(s, t);
            let tile = PlainTile {
                columns,
                exps,
                ahead,
            };
            V::add_plain(self, tile, setup);
        }
        if setup.moments.has(Moment::StudentOffset) {
            self.add_offsets(s, n, setup);
        }
        if setup.moments.has(Moment::Agreement) {
            self.add_agreement((s, t), n);
        }
        if let Some(weights) = weights {
            self.add_class_weights(&s[..n], &et[..n], weights, setup);
        }
    }
}

/// The moments of the method with its similarities.
const fn method(similarity: Similarity) -> u32 {
    let moments = similarity.moments();
    moments.with(Moments::of(&[Moment::SoftMoment])).bits()
}

pub(super) const COSINE: u32 = method(Similarity::Cosine);
#[cfg(not(target_arch = "wasm32"))]
const BHATTACHARYYA: u32 = method(Similarity::Bhattacharyya);
#[cfg(not(target_arch = "wasm32"))]
const EXP_NEG_KL: u32 = method(Similarity::ExpNegKl);
#[cfg(not(target_arch = "wasm32"))]
const OTHER: u32 = method(Similarity::Overlap);
