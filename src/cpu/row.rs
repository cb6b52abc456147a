//! Observe and apply for one row, in blocks that stay in the first-level cache.
//!
//! Elementwise arithmetic is f32, in lanes; the block's sums are merged in f64, so that the error does not grow with the row.
//! Everything here is `inline(always)`: `isa.rs` compiles it once per instruction set.

use std::f64::consts::{LN_2, LOG2_E};

use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::block::{BLOCK, Block, Scratch, block, chunks, measured, padding};
use super::decide;
use super::lanes::{LANES, exp2, log2, mul_add, sum};
use crate::params::careful_bits;
use crate::{Config, Decision, RowStats, Similarity, Values, flags};

/// Where a gradient row goes.
pub(crate) enum RowMut<'a> {
    F32(&'a mut [f32]),
    F16(&'a mut [half::f16]),
    Bf16(&'a mut [bf16]),
}

/// One row of student and teacher, and what of the configuration concerns observing and applying.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub student: Values<'a>,
    pub teacher: Values<'a>,
    pub label: i32,
    pub config: &'a Config,
}

/// log2(e) over the temperatures, of student and teacher.
#[inline(always)]
fn exponents(config: &Config) -> (f32, f32) {
    let of = |temperature: f32| (LOG2_E / f64::from(temperature)) as f32;
    (
        of(config.student_temperature),
        of(config.teacher_temperature),
    )
}

/// `2^((x - max) k)` of every value. A loop over slices, which compilers turn into vectors more surely than arrays of lanes.
#[inline(always)]
fn exp_block<const FMA: bool>(x: &[f32], max: f32, k: f32, out: &mut [f32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = exp2::<FMA>((x - max) * k);
    }
}

// What a similarity needs summed in the first sweep.
const OTHER: u8 = 0;
const COSINE: u8 = 1;
const BHATTACHARYYA: u8 = 2;

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

/// The sums of `RowStats`, in f64 and relative to the row's maxima so far.
#[derive(Clone, Copy)]
struct Sums {
    student_max: f32,
    teacher_max: f32,
    zs: f64,
    zt: f64,
    difference: f64,
    moment: f64,
    cross: f64,
    student_square: f64,
    teacher_square: f64,
    offset: f64,
    offset_count: f64,
    masked_mass: f64,
    flags: u32,
}

impl Sums {
    const EMPTY: Self = Self {
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

    /// Makes the sums relative to larger maxima (METHOD: the merge with an empty piece).
    fn rescale(&mut self, student_max: f32, teacher_max: f32, config: &Config) {
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
        // Where the factor is 0 nothing remains, whatever the size of the shift.
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

    /// Adds a block. `CAREFUL` where it holds padding, infinities, NaN or huge values; `SIMILARITY` is one of the constants above.
    #[inline(always)]
    fn add<const FMA: bool, const CAREFUL: bool, const SIMILARITY: u8>(
        &mut self,
        s: &[f32],
        t: &[f32],
        n: usize,
        row: &Row<'_>,
        (es, et): (&mut Block, &mut Block),
    ) {
        let (ks, kt) = exponents(row.config);
        let (ms, mt) = (self.student_max, self.teacher_max);
        let (es, et) = (&mut es[..s.len()], &mut et[..t.len()]);
        exp_block::<FMA>(s, ms, ks, es);
        exp_block::<FMA>(t, mt, kt, et);
        let zero = [0.0; LANES];
        let [mut zs, mut zt, mut difference, mut moment, mut masked] = [zero; 5];
        let [mut cross, mut ss, mut tt] = [zero; 3];
        for (((s, t), es), et) in chunks(s).zip(chunks(t)).zip(chunks(es)).zip(chunks(et)) {
            for i in 0..LANES {
                zs[i] += es[i];
                zt[i] += et[i];
                let mut ds = (s[i] - ms) * ks;
                let mut dt = (t[i] - mt) * kt;
                let mut seen = et[i];
                if CAREFUL {
                    // -inf and NaN become finite here; what a NaN row sums to is thrown away later.
                    let hidden = s[i] == f32::NEG_INFINITY;
                    masked[i] += if hidden { et[i] } else { 0.0 };
                    seen = if hidden { 0.0 } else { et[i] };
                    ds = if ds > f32::MIN { ds } else { f32::MIN };
                    ds = if hidden { 0.0 } else { ds };
                    dt = if dt > -1e4 { dt } else { -1e4 };
                }
                difference[i] = mul_add::<FMA>(seen, dt - ds, difference[i]);
                moment[i] = mul_add::<FMA>(seen, dt, moment[i]);
            }
            if SIMILARITY == COSINE {
                for i in 0..LANES {
                    cross[i] = mul_add::<FMA>(es[i], et[i], cross[i]);
                    ss[i] = mul_add::<FMA>(es[i], es[i], ss[i]);
                    tt[i] = mul_add::<FMA>(et[i], et[i], tt[i]);
                }
            }
            if SIMILARITY == BHATTACHARYYA {
                for i in 0..LANES {
                    cross[i] += (es[i] * et[i]).sqrt();
                }
            }
        }
        self.zs += sum(zs);
        self.zt += sum(zt);
        self.difference += sum(difference) * LN_2;
        self.moment += sum(moment) * LN_2;
        self.cross += sum(cross);
        self.student_square += sum(ss);
        self.teacher_square += sum(tt);
        self.masked_mass += sum(masked);
        if row.config.label_smoothing > 0.0 {
            let visible = |s: f32| if s > f32::NEG_INFINITY { s - ms } else { 0.0 };
            let (whole, rest) = s[..n].as_chunks::<LANES>();
            let mut offset = zero;
            for s in whole {
                for i in 0..LANES {
                    offset[i] += visible(s[i]);
                }
            }
            for (o, s) in offset.iter_mut().zip(rest) {
                *o += visible(*s);
            }
            self.offset += sum(offset) / f64::from(row.config.student_temperature);
        }
    }

    /// `add` for the configured similarity.
    #[inline(always)]
    fn add_any<const FMA: bool, const CAREFUL: bool>(
        &mut self,
        s: &[f32],
        t: &[f32],
        n: usize,
        row: &Row<'_>,
        scratch: (&mut Block, &mut Block),
    ) {
        match row.config.similarity {
            Similarity::Cosine => self.add::<FMA, CAREFUL, COSINE>(s, t, n, row, scratch),
            Similarity::Bhattacharyya => {
                self.add::<FMA, CAREFUL, BHATTACHARYYA>(s, t, n, row, scratch);
            }
            _ => self.add::<FMA, CAREFUL, OTHER>(s, t, n, row, scratch),
        }
    }
}

/// Observe: the statistics of one row, KDR included.
#[inline(always)]
pub(super) fn observe<const FMA: bool>(row: &Row<'_>, scratch: &mut Scratch) -> RowStats {
    let classes = row.student.len();
    let mut stats = RowStats {
        label: row.label,
        ..RowStats::default()
    };
    if row.label == row.config.ignore_index {
        stats.flags = flags::IGNORED;
        return stats;
    }
    let careful_from = careful_bits(row.config);
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
        let exps = (&mut scratch.first, &mut scratch.second);
        let s_max = sums.student_max.max(s_max);
        let t_max = sums.teacher_max.max(t_max);
        sums.rescale(s_max, t_max, row.config);
        if s_magnitude.max(t_magnitude) < careful_from {
            sums.flags |= flags::STUDENT_LIVE | flags::TEACHER_LIVE;
            sums.add_any::<FMA, false>(s, t, n, row, exps);
        } else {
            sums.flags |= inspect(&s[..n], flags::STUDENT_LIVE, flags::STUDENT_MASKED);
            sums.flags |= inspect(&t[..n], flags::TEACHER_LIVE, 0);
            sums.add_any::<FMA, true>(s, t, n, row, exps);
        }
        sums.offset_count += n as f64;
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
    if row.config.label_smoothing > 0.0 {
        stats.student_count = sums.offset_count as f32;
    }
    if stats.flags & flags::NON_FINITE != 0 {
        stats.kdr = f32::NAN;
        return stats;
    }
    if row.config.similarity.needs_second_sweep() {
        stats.cross = second_sweep::<FMA>(row, &stats, scratch) as f32;
    }
    stats.kdr = decide::kdr(&stats, row.config.similarity);
    stats
}

/// The sum that `JensenShannon` (in bits, twice the divergence) or `Overlap` needs, once the normalisers are known.
#[inline(always)]
fn second_sweep<const FMA: bool>(row: &Row<'_>, stats: &RowStats, scratch: &mut Scratch) -> f64 {
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
        exp_block::<FMA>(s, stats.student_max, ks, p);
        exp_block::<FMA>(t, stats.teacher_max, kt, q);
        let terms = &mut scratch.student[..p.len()];
        for ((term, p), q) in terms.iter_mut().zip(&*p).zip(&*q) {
            let (p, q) = (p * inv_zs, q * inv_zt);
            *term = if jensen_shannon {
                divergence::<FMA>(p, q)
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
fn divergence<const FMA: bool>(p: f32, q: f32) -> f32 {
    let tiny = f32::MIN_POSITIVE;
    let scale = 2.0 / if p + q > tiny { p + q } else { tiny };
    let (rp, rq) = (p * scale, q * scale);
    let lp = p * log2::<FMA>(if rp > tiny { rp } else { tiny });
    let lq = q * log2::<FMA>(if rq > tiny { rq } else { tiny });
    (if p > tiny { lp } else { 0.0 }) + (if q > tiny { lq } else { 0.0 })
}

/// Apply: one row of the gradient.
#[inline(always)]
pub(super) fn apply<const FMA: bool>(
    row: &Row<'_>,
    decision: &Decision,
    gradient: RowMut<'_>,
    scratch: &mut Scratch,
) {
    let classes = row.student.len();
    let mut gradient = gradient;
    let result = decision.result.flags;
    if result & flags::IGNORED != 0 {
        return fill(gradient, 0.0);
    }
    if result & (flags::NON_FINITE | flags::INVALID_LABEL) != 0 {
        return fill(gradient, f32::NAN);
    }
    for start in (0..classes).step_by(BLOCK) {
        let n = BLOCK.min(classes - start);
        let s = &block(row.student, start, n, &mut scratch.student)[..n];
        let t = &block(row.teacher, start, n, &mut scratch.teacher)[..n];
        let out = match &mut gradient {
            RowMut::F32(g) => &mut g[start..start + n],
            RowMut::F16(_) | RowMut::Bf16(_) => &mut scratch.first[..n],
        };
        grad_block::<FMA>(s, t, decision, exponents(row.config), out);
        let label = (decision.label as usize).wrapping_sub(start);
        if label < n {
            out[label] -= decision.label_share;
        }
        match &mut gradient {
            RowMut::F32(_) => {}
            RowMut::F16(g) => g[start..start + n].convert_from_f32_slice(&scratch.first[..n]),
            RowMut::Bf16(g) => {
                for (o, x) in g[start..start + n].iter_mut().zip(&scratch.first) {
                    *o = bf16::from_bits(round_to_bf16(x.to_bits()));
                }
            }
        }
    }
}

/// The gradient of a block, all but the label's share.
#[inline(always)]
fn grad_block<const FMA: bool>(
    s: &[f32],
    t: &[f32],
    d: &Decision,
    (ks, kt): (f32, f32),
    out: &mut [f32],
) {
    for ((o, s), t) in out.iter_mut().zip(s).zip(t) {
        let es = exp2::<FMA>((s - d.student_max) * ks);
        let et = exp2::<FMA>((t - d.teacher_max) * kt);
        *o = mul_add::<FMA>(es, d.student_scale, -(et * d.teacher_scale)) - d.uniform_share;
    }
}

/// The upper half of a finite f32, rounded to nearest, ties to even.
#[inline(always)]
fn round_to_bf16(bits: u32) -> u16 {
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

fn fill(gradient: RowMut<'_>, value: f32) {
    match gradient {
        RowMut::F32(g) => g.fill(value),
        RowMut::F16(g) => g.fill(half::f16::from_f32(value)),
        RowMut::Bf16(g) => g.fill(bf16::from_f32(value)),
    }
}
