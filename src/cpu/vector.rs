//! Sixteen f32 as vector registers, by explicit instructions. From loops over arrays, compilers left some of the many sums of
//! `observe` scalar.

use half::{bf16, f16};

use super::lanes::{EXP2_COEFFICIENTS, EXP2_FIRST, LANES, Lanes, ROUND};

/// Sixteen f32 of one instruction set.
///
/// Every method is `inline(always)`: it becomes part of a function that `isa.rs` compiles for that instruction set, and runs only there.
pub(super) trait Vector: Copy {
    /// True if `a * b + c` is one instruction.
    const FMA: bool;
    fn splat(x: f32) -> Self;
    fn load(from: &Lanes) -> Self;
    /// The first lanes from a slice of fewer, the others with `fill`.
    #[inline(always)]
    fn load_part(from: &[f32], fill: f32) -> Self {
        let mut lanes = [fill; LANES];
        lanes[..from.len()].copy_from_slice(from);
        Self::load(&lanes)
    }
    /// The lanes from `first` on with `fill`.
    fn filled_from(self, first: usize, fill: f32) -> Self;
    fn store(self, to: &mut Lanes);
    /// The first lanes to a slice of fewer.
    #[inline(always)]
    fn store_part(self, to: &mut [f32]) {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes);
        to.copy_from_slice(&lanes[..to.len()]);
    }
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    /// `self * b + c`
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// The larger, for numbers.
    fn max(self, b: Self) -> Self;
    fn sqrt(self) -> Self;
    fn from_f16(from: &[f16; LANES]) -> Self;
    /// Rounds to nearest, ties to even.
    fn store_f16(self, to: &mut [f16; LANES]);
    #[inline(always)]
    fn from_bf16(from: &[bf16; LANES]) -> Self {
        let mut lanes = [0.0; LANES];
        for i in 0..LANES {
            lanes[i] = f32::from_bits(u32::from(from[i].to_bits()) << 16);
        }
        Self::load(&lanes)
    }
    /// Rounds finite numbers to nearest, ties to even.
    #[inline(always)]
    fn store_bf16(self, to: &mut [bf16; LANES]) {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes);
        for i in 0..LANES {
            let bits: u32 = lanes[i].to_bits();
            to[i] = bf16::from_bits(((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16);
        }
    }
    /// The first 16-bit numbers from a slice of fewer than `LANES`, the others with the first of them.
    #[inline(always)]
    fn load_halves(from: &[u16]) -> [u16; LANES] {
        let mut lanes = [from[0]; LANES];
        copy_few(from, &mut lanes);
        lanes
    }
    /// The first 16-bit numbers to a slice of fewer than `LANES`.
    #[inline(always)]
    fn store_halves(from: &[u16; LANES], to: &mut [u16]) {
        copy_few(&from[..to.len()], to);
    }
    /// The larger of each lane's bits and those of the magnitude of `b`, as unsigned integers. NaN is above all numbers.
    fn max_magnitude(self, b: Self) -> Self;
    /// The largest lane, for numbers.
    fn largest(self) -> f32;
    /// The largest lane's bits as an unsigned integer.
    fn largest_bits(self) -> u32;
    /// The sum of all lanes, in f64 and in the order of `lanes::sum`.
    fn sum(self) -> f64;
    /// Asks for the cache line at an address, which may lie outside of any allocation. Where that was not measured, it does nothing.
    #[inline(always)]
    fn prefetch<T>(_at: *const T) {}
    /// The same for a line that will be written.
    #[inline(always)]
    fn prefetch_to_write<T>(_at: *const T) {}
    /// `[a0 b0 a1 b1]` and `[a2 b2 a3 b3]` of every four lanes of `self` and `b`.
    fn interleave(self, b: Self) -> [Self; 2];
    /// `[a0 a1 b0 b1]` and `[a2 a3 b2 b3]` of every four lanes of `self` and `b`.
    fn interleave_pairs(self, b: Self) -> [Self; 2];
    /// The even and the odd ones of the fours of lanes of `self`, then those of `b`.
    fn split_fours(self, b: Self) -> [Self; 2];
    /// `2^n`, if the low nine bits of `self` are the integer `n + 127`: shifts it into the exponent.
    fn exponent(self) -> Self;

    /// 2^x for x <= 0: `scalar::exp2` in all lanes.
    #[inline(always)]
    fn exp2(self) -> Self {
        let round = Self::splat(ROUND);
        let x = self.max(Self::splat(-127.0));
        let rounded = x.add(round);
        let f = x.sub(rounded.sub(round));
        let mut p = Self::splat(EXP2_FIRST);
        for c in EXP2_COEFFICIENTS {
            p = p.mul_add(f, Self::splat(c));
        }
        p.mul(rounded.exponent())
    }
}

/// Copies fewer than `LANES` numbers to the start of `to`. The library's copy of a length that is not constant is a call.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn copy_few(from: &[u16], to: &mut [u16]) {
    let n = from.len();
    macro_rules! in_two {
        ($($size:literal),*) => {
            $( if let (Some(first), Some(last)) = (from.first_chunk::<$size>(), from.last_chunk()) {
                let last: &[u16; $size] = last;
                to[..$size].copy_from_slice(first);
                to[n - $size..n].copy_from_slice(last);
                return;
            } )*
        };
    }
    in_two!(8, 4, 2, 1);
}

/// An operation whose result does not hang on the order of its operands, but for rounding.
pub(super) trait Fold {
    fn fold<V: Vector>(a: V, b: V) -> V;
}

pub(super) struct Sum;
pub(super) struct Largest;
pub(super) struct LargestMagnitude;

impl Fold for Sum {
    #[inline(always)]
    fn fold<V: Vector>(a: V, b: V) -> V {
        a.add(b)
    }
}

impl Fold for Largest {
    #[inline(always)]
    fn fold<V: Vector>(a: V, b: V) -> V {
        a.max(b)
    }
}

impl Fold for LargestMagnitude {
    #[inline(always)]
    fn fold<V: Vector>(a: V, b: V) -> V {
        a.max_magnitude(b)
    }
}

/// Folds the lanes of each row; lane `i` of the result has row `i`. Four steps fold and transpose at once.
#[inline(always)]
pub(super) fn fold_rows<V: Vector, F: Fold>(rows: &[Lanes; LANES]) -> V {
    let row = |i: usize| V::load(&rows[i]);
    let mut fours = [V::splat(0.0); 4];
    for (i, four) in fours.iter_mut().enumerate() {
        let mut pairs = [V::splat(0.0); 2];
        for (j, pair) in pairs.iter_mut().enumerate() {
            let [low, high] = row(4 * i + 2 * j).interleave(row(4 * i + 2 * j + 1));
            *pair = F::fold(low, high);
        }
        let [low, high] = pairs[0].interleave_pairs(pairs[1]);
        *four = F::fold(low, high);
    }
    let [even, odd] = fours[0].split_fours(fours[1]);
    let low = F::fold(even, odd);
    let [even, odd] = fours[2].split_fours(fours[3]);
    let high = F::fold(even, odd);
    let [even, odd] = low.split_fours(high);
    F::fold(even, odd)
}

/// The bits of an f32 without its sign.
pub(super) const MAGNITUDE: u32 = 0x7fff_ffff;
