//! The sums of a row, tile by tile: elementwise arithmetic in lanes of f32, the sums of a tile in f64.

use std::f64::consts::{LN_2, LOG2_E};

use super::lanes::{LANES, sum};
use super::scalar::{exp2, mul_add};
use super::tile::{Tile, chunks};
use super::vector::Vector;
use crate::{Config, Similarity};

/// log2(e) divided by the temperatures of student and teacher.
#[inline(always)]
pub(super) fn exponents(config: &Config) -> (f32, f32) {
    let of = |temperature: f32| (LOG2_E / f64::from(temperature)) as f32;
    (
        of(config.student_temperature),
        of(config.teacher_temperature),
    )
}

/// `2^((x - max) k)` of every value. It loops over slices, because compilers vectorise them more reliably than arrays of lanes.
#[inline(always)]
pub(super) fn exp_tile<V: Vector>(x: &[f32], max: f32, k: f32, out: &mut [f32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = exp2::<V>((x - max) * k);
    }
}

/// Vectors per partial sum of exponentials. Each partial sum is then added to the lane's sum. Two-level summation bounds the rounding
/// error: in one sum with the 1 of the largest logit, each term of a long flat tail could be rounded away.
const VECTORS_PER_PARTIAL_SUM: usize = 8;

// The sums that similarities need in the first sweep.
const OTHER: u8 = 0;
const COSINE: u8 = 1;
const BHATTACHARYYA: u8 = 2;

/// The sums of `RowStats`, in f64 and relative to the row's maxima so far.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub student_max: f32,
    pub teacher_max: f32,
    pub zs: f64,
    pub zt: f64,
    pub difference: f64,
    pub moment: f64,
    pub cross: f64,
    pub student_square: f64,
    pub teacher_square: f64,
    pub offset: f64,
    pub offset_count: f64,
    pub masked_mass: f64,
    pub flags: u32,
}

impl Sums {
    pub const EMPTY: Self = Self {
        student_max: f32::MIN,
        teacher_max: f32::MIN,
        zs: 0.0,
        zt: 0.0,
        difference: 0.0,
        moment: 0.0,
        cross: 0.0,
        student_square: 0.0,
        teacher_square: 0.0,
        offset: 0.0,
        offset_count: 0.0,
        masked_mass: 0.0,
        flags: 0,
    };

    /// Makes the sums relative to larger maxima (docs/METHOD.md, section 3: the merge with an empty segment).
    pub fn rescale(&mut self, student_max: f32, teacher_max: f32, config: &Config) {
        if self.zs == 0.0 && self.zt == 0.0 {
            // Nothing is summed yet.
            self.student_max = student_max;
            self.teacher_max = teacher_max;
            return;
        }
        let from = |old: f32, new: f32, temperature: f32| {
            (f64::from(old) - f64::from(new)) / f64::from(temperature)
        };
        let ds = from(self.student_max, student_max, config.student_temperature);
        let dt = from(self.teacher_max, teacher_max, config.teacher_temperature);
        if ds == 0.0 && dt == 0.0 {
            return;
        }
        let (fs, ft) = (ds.exp(), dt.exp());
        // A factor of 0 gives 0, even if the shift is infinite.
        let shift = |sum: f64, count: f64, by: f64| {
            if ft == 0.0 {
                0.0
            } else {
                ft * (sum + count * by)
            }
        };
        self.difference = shift(self.difference, self.zt - self.masked_mass, dt - ds);
        self.moment = shift(self.moment, self.zt - self.masked_mass, dt);
        self.masked_mass *= ft;
        self.zs *= fs;
        self.zt *= ft;
        self.cross *= match config.similarity {
            Similarity::Bhattacharyya => (0.5 * (ds + dt)).exp(),
            _ => fs * ft,
        };
        self.student_square *= fs * fs;
        self.teacher_square *= ft * ft;
        if self.offset_count > 0.0 {
            self.offset += self.offset_count * ds;
        }
        self.student_max = student_max;
        self.teacher_max = teacher_max;
    }

    /// Adds a tile of plain numbers. `SIMILARITY` is one of the constants above.
    #[inline(always)]
    fn add<V: Vector, const SIMILARITY: u8>(
        &mut self,
        s: &[f32],
        t: &[f32],
        config: &Config,
        (es, et): (&mut Tile, &mut Tile),
    ) {
        let (ks, kt) = exponents(config);
        let (ks, kt) = (V::splat(ks), V::splat(kt));
        let (ms, mt) = (V::splat(self.student_max), V::splat(self.teacher_max));
        let zero = V::splat(0.0);
        let [mut zs, mut zt, mut difference, mut moment] = [zero; 4];
        let [mut cross, mut ss, mut tt] = [zero; 3];
        let [mut partial_s, mut partial_t] = [zero; 2];
        let (es, et) = (es.as_chunks_mut().0, et.as_chunks_mut().0);
        for (i, (((s, t), es), et)) in chunks(s).zip(chunks(t)).zip(es).zip(et).enumerate() {
            if i % VECTORS_PER_PARTIAL_SUM == 0 {
                zs = zs.add(partial_s);
                zt = zt.add(partial_t);
                [partial_s, partial_t] = [zero; 2];
            }
            let ds = V::load(s).sub(ms).mul(ks);
            let dt = V::load(t).sub(mt).mul(kt);
            let (p, q) = (ds.exp2(), dt.exp2());
            p.store(es);
            q.store(et);
            partial_s = partial_s.add(p);
            partial_t = partial_t.add(q);
            difference = q.mul_add(dt.sub(ds), difference);
            moment = q.mul_add(dt, moment);
            if SIMILARITY == COSINE {
                cross = p.mul_add(q, cross);
                ss = p.mul_add(p, ss);
                tt = q.mul_add(q, tt);
            }
            if SIMILARITY == BHATTACHARYYA {
                cross = cross.add(p.mul(q).sqrt());
            }
        }
        self.zs += total(zs) + total(partial_s);
        self.zt += total(zt) + total(partial_t);
        self.difference += total(difference) * LN_2;
        self.moment += total(moment) * LN_2;
        if SIMILARITY != OTHER {
            self.cross += total(cross);
        }
        if SIMILARITY == COSINE {
            self.student_square += total(ss);
            self.teacher_square += total(tt);
        }
    }

    /// Adds a tile with padding, infinities, NaN or huge values.
    #[inline(always)]
    fn add_checked<V: Vector, const SIMILARITY: u8>(
        &mut self,
        s: &[f32],
        t: &[f32],
        config: &Config,
        (es, et): (&mut Tile, &mut Tile),
    ) {
        let (ks, kt) = exponents(config);
        let (ms, mt) = (self.student_max, self.teacher_max);
        let (es, et) = (&mut es[..s.len()], &mut et[..t.len()]);
        exp_tile::<V>(s, ms, ks, es);
        exp_tile::<V>(t, mt, kt, et);
        let zero = [0.0; LANES];
        let [mut zs, mut zt, mut difference, mut moment, mut masked] = [zero; 5];
        let [mut cross, mut ss, mut tt] = [zero; 3];
        let [mut partial_s, mut partial_t] = [zero; 2];
        let all = chunks(s).zip(chunks(t)).zip(chunks(es)).zip(chunks(et));
        for (n, (((s, t), es), et)) in all.enumerate() {
            if n % VECTORS_PER_PARTIAL_SUM == 0 {
                for i in 0..LANES {
                    zs[i] += partial_s[i];
                    zt[i] += partial_t[i];
                }
                [partial_s, partial_t] = [zero; 2];
            }
            for i in 0..LANES {
                partial_s[i] += es[i];
                partial_t[i] += et[i];
                let mut ds = (s[i] - ms) * ks;
                let mut dt = (t[i] - mt) * kt;
                // -inf and NaN become finite here; the sums of a row with NaN are not used.
                let hidden = s[i] == f32::NEG_INFINITY;
                masked[i] += if hidden { et[i] } else { 0.0 };
                let seen = if hidden { 0.0 } else { et[i] };
                ds = if ds > f32::MIN { ds } else { f32::MIN };
                ds = if hidden { 0.0 } else { ds };
                dt = if dt > -1e4 { dt } else { -1e4 };
                difference[i] = mul_add::<V>(seen, dt - ds, difference[i]);
                moment[i] = mul_add::<V>(seen, dt, moment[i]);
            }
            if SIMILARITY == COSINE {
                for i in 0..LANES {
                    cross[i] = mul_add::<V>(es[i], et[i], cross[i]);
                    ss[i] = mul_add::<V>(es[i], es[i], ss[i]);
                    tt[i] = mul_add::<V>(et[i], et[i], tt[i]);
                }
            }
            if SIMILARITY == BHATTACHARYYA {
                for i in 0..LANES {
                    cross[i] += (es[i] * et[i]).sqrt();
                }
            }
        }
        self.zs += sum(zs) + sum(partial_s);
        self.zt += sum(zt) + sum(partial_t);
        self.difference += sum(difference) * LN_2;
        self.moment += sum(moment) * LN_2;
        self.cross += sum(cross);
        self.student_square += sum(ss);
        self.teacher_square += sum(tt);
        self.masked_mass += sum(masked);
    }

    /// Adds a tile's distances from the maximum and their number, for label smoothing. Masked classes are left out.
    #[inline(always)]
    fn add_offsets(&mut self, s: &[f32], n: usize, config: &Config) {
        let ms = self.student_max;
        let visible = |s: f32| {
            if s > f32::NEG_INFINITY {
                (s - ms, 1.0)
            } else {
                (0.0, 0.0)
            }
        };
        let (whole, rest) = s[..n].as_chunks::<LANES>();
        let [mut offset, mut count] = [[0.0f32; LANES]; 2];
        let mut add = |i: usize, s: f32| {
            let (distance, one) = visible(s);
            offset[i] += distance;
            count[i] += one;
        };
        for lanes in whole.iter().map(|s| &s[..]).chain([rest]) {
            for (i, s) in lanes.iter().enumerate() {
                add(i, *s);
            }
        }
        self.offset += sum(offset) / f64::from(config.student_temperature);
        self.offset_count += sum(count);
    }

    /// Adds a tile of `n` values and their padding, for the similarity of the configuration.
    #[inline(always)]
    pub fn add_any<V: Vector>(
        &mut self,
        (s, t): (&[f32], &[f32]),
        n: usize,
        checked: bool,
        config: &Config,
        exps: (&mut Tile, &mut Tile),
    ) {
        match (config.similarity, checked) {
            (Similarity::Cosine, false) => self.add::<V, COSINE>(s, t, config, exps),
            (Similarity::Cosine, true) => self.add_checked::<V, COSINE>(s, t, config, exps),
            (Similarity::Bhattacharyya, false) => {
                self.add::<V, BHATTACHARYYA>(s, t, config, exps);
            }
            (Similarity::Bhattacharyya, true) => {
                self.add_checked::<V, BHATTACHARYYA>(s, t, config, exps);
            }
            (_, false) => self.add::<V, OTHER>(s, t, config, exps),
            (_, true) => self.add_checked::<V, OTHER>(s, t, config, exps),
        }
        if config.label_smoothing > 0.0 {
            self.add_offsets(s, n, config);
        }
    }
}

/// The sum of all lanes.
#[inline(always)]
fn total<V: Vector>(x: V) -> f64 {
    let mut lanes = [0.0; LANES];
    x.store(&mut lanes);
    sum(lanes)
}
