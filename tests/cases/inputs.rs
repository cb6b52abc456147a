//! Extreme inputs: seeded logits of several kinds, laid out with strides and offsets, with poison between the rows.

use half::{bf16, f16};
use wgpu_distill::{Storage, Values, ValuesMut, half};

/// Kinds of logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Normal values with standard deviation 2; every 64th value times 20.
    Normal,
    /// One logit 25 above the rest, at different classes in student and teacher.
    Peaked,
    /// `Normal` plus a common offset.
    Offset(f32),
    /// Teacher and student are the same.
    Identical,
    /// All logits of a row equal.
    Flat,
    /// As `Flat` for the first two thirds of the classes in the student and the last two thirds in the teacher; 90 lower elsewhere.
    FlatHalves,
    /// All the probability in one class, the same on both sides: 0 and -inf.
    OneHot,
    /// The same third of the classes masked (-inf) in both.
    MaskedBoth,
    /// A third of the classes masked in the teacher only.
    MaskedTeacher,
    /// A third of the classes masked in the student only: an infinite loss unless the label has all the weight.
    MaskedStudent,
    /// Every class masked in one of them: odd ones in the student, even ones in the teacher. No class is in both.
    Disjoint,
    /// All classes masked except the last one of the teacher and the last two of the student.
    MaskedButLast,
    /// Some logits at +-1e30.
    Huge,
    /// Every other class has the lowest finite f32, the mask of some frameworks.
    Lowest,
    /// A NaN in row 1 of the student, +inf in row 2 of the teacher, only -inf in row 3 of the student and in row 4 of the teacher.
    Broken,
    /// Subnormal numbers and zeros of both signs.
    Subnormal,
    /// A common offset of +-2^100 and multiples of 2^93 around it, exact in f32 and bf16, for temperatures like 2^94.
    Far(f32),
    /// Small multiples of 2^-24, the subnormal numbers of f16, for temperatures like 2^-22.
    SubnormalHalf,
}

/// A sequence of uniform 32-bit numbers (splitmix).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }

    pub fn unit(&mut self) -> f32 {
        (self.next() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// The sum of four uniform numbers, scaled to standard deviation 1; approximately normal.
    pub fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 1.732_05
    }
}

/// Student and teacher rows of a kind, `[rows, classes]` and `[rows, teacher_classes]`, contiguous.
pub fn logits(
    kind: Kind,
    rows: usize,
    classes: usize,
    teacher_classes: usize,
    seed: u64,
) -> (Vec<f32>, Vec<f32>) {
    let mut random = Random::new(seed);
    let mut student = normal(&mut random, rows * classes);
    let mut teacher = normal(&mut random, rows * teacher_classes);
    let masked = |i: usize| i % 3 == 1;
    for row in 0..rows {
        let s = &mut student[row * classes..(row + 1) * classes];
        let t = &mut teacher[row * teacher_classes..(row + 1) * teacher_classes];
        match kind {
            Kind::Normal => {}
            Kind::Peaked => {
                s[(row * 7) % classes] = 25.0;
                t[(row * 11 + 1) % teacher_classes] = 25.0;
            }
            Kind::Offset(offset) => {
                // Rounded to multiples that the addition keeps, so that the offset changes nothing in exact arithmetic.
                let step = (offset.abs() / 4096.0).max(1.0 / 1024.0);
                for x in s.iter_mut().chain(t.iter_mut()) {
                    *x = (*x / step).round() * step + offset;
                }
            }
            Kind::Identical => {
                let n = classes.min(teacher_classes);
                t[..n].copy_from_slice(&s[..n]);
            }
            Kind::Flat => {
                s.fill(row as f32 - 3.0);
                t.fill(2.5);
            }
            Kind::FlatHalves => {
                for (i, x) in s.iter_mut().enumerate() {
                    *x = if i < 2 * classes / 3 { 1.5 } else { -88.5 };
                }
                for (i, x) in t.iter_mut().enumerate() {
                    *x = if i < classes / 3 { -88.5 } else { 1.5 };
                }
            }
            Kind::OneHot => {
                s.fill(f32::NEG_INFINITY);
                t.fill(f32::NEG_INFINITY);
                s[row % classes] = 0.0;
                t[row % classes] = 0.0;
            }
            Kind::MaskedBoth => {
                mask(s, masked);
                mask(t, masked);
            }
            Kind::MaskedTeacher => mask(t, masked),
            Kind::MaskedStudent => mask(s, masked),
            Kind::Disjoint => {
                mask(s, |i| i % 2 == 1);
                mask(t, |i| i % 2 == 0);
            }
            Kind::MaskedButLast => {
                mask(s, |i| i + 2 < classes);
                mask(t, |i| i + 1 < classes);
            }
            Kind::Huge => {
                s[row % classes] = 1e30;
                t[row % classes] = 1e30;
                s[(row + 1) % classes] = -1e30;
            }
            Kind::Lowest => {
                for i in (1..classes).step_by(2) {
                    s[i] = f32::MIN;
                    t[i] = f32::MIN;
                }
            }
            Kind::Broken => match row {
                1 => s[classes / 2] = f32::NAN,
                2 => t[classes - 1] = f32::INFINITY,
                3 => s.fill(f32::NEG_INFINITY),
                4 => t.fill(f32::NEG_INFINITY),
                5 => s[0] = -f32::NAN,
                _ => {}
            },
            Kind::Far(sign) => {
                for x in s.iter_mut().chain(t.iter_mut()) {
                    *x = sign * 2f32.powi(100) + steps(*x) * 2f32.powi(93);
                }
            }
            Kind::SubnormalHalf => {
                for x in s.iter_mut().chain(t.iter_mut()) {
                    *x = steps(*x) * 2f32.powi(-24);
                }
            }
            Kind::Subnormal => {
                for (i, x) in s.iter_mut().chain(t.iter_mut()).enumerate() {
                    *x = [1e-40, -0.0, 0.0, -1e-39][i % 4];
                }
            }
        }
    }
    (student, teacher)
}

/// The logarithm of a class's probability; NaN for a row without a finite result.
pub fn log_probability(row: &[f32], class: usize) -> f32 {
    let row = row.iter().copied().map(f64::from);
    let max = row.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.clone().map(|x| (x - max).exp()).sum();
    let logit = row.clone().nth(class).expect("a class");
    (logit - max - sum.ln()) as f32
}

fn normal(random: &mut Random, n: usize) -> Vec<f32> {
    let value = |i: usize, r: &mut Random| {
        let x = 2.0 * r.normal();
        if i % 64 == 63 { 20.0 * x } else { x }
    };
    (0..n).map(|i| value(i, random)).collect()
}

/// Rounds to an integer; few results are beyond 8.
fn steps(x: f32) -> f32 {
    (2.0 * x).round().clamp(-16.0, 16.0)
}

fn mask(row: &mut [f32], masked: impl Fn(usize) -> bool) {
    for (i, x) in row.iter_mut().enumerate() {
        if masked(i) {
            *x = f32::NEG_INFINITY;
        }
    }
}

/// Owned values in one of the storage types.
#[derive(Clone, Debug)]
pub enum Stored {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Stored {
    /// Rounds to a storage type.
    pub fn round(values: &[f32], storage: Storage) -> Self {
        match storage {
            Storage::F32 => Self::F32(values.to_vec()),
            Storage::F16 => Self::F16(values.iter().map(|x| f16::from_f32(*x)).collect()),
            Storage::Bf16 => Self::Bf16(values.iter().map(|x| bf16::from_f32(*x)).collect()),
        }
    }

    pub fn values(&self) -> Values<'_> {
        match self {
            Self::F32(v) => v.into(),
            Self::F16(v) => v.into(),
            Self::Bf16(v) => v.into(),
        }
    }

    pub fn values_mut(&mut self) -> ValuesMut<'_> {
        match self {
            Self::F32(v) => v.into(),
            Self::F16(v) => v.into(),
            Self::Bf16(v) => v.into(),
        }
    }
}

/// A NaN with a payload in both halves, so that its f16 and bf16 halves have one too.
///
/// No kernel writes these bits, so they mark unwritten memory.
pub const POISON: f32 = f32::from_bits(0x7fe5_a5a5);

/// Spreads rows to a stride and an offset. All other elements are poison and must have no effect.
pub fn spread(values: &[f32], classes: usize, stride: usize, offset: usize) -> Vec<f32> {
    let rows = values.len() / classes.max(1);
    let mut out = vec![POISON; offset + rows * stride];
    for row in 0..rows {
        let at = offset + row * stride;
        out[at..at + classes].copy_from_slice(&values[row * classes..(row + 1) * classes]);
    }
    out
}
