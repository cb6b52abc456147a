//! Sixteen f32 in the registers of x86-64 with AVX2 or AVX-512.
#![cfg(target_arch = "x86_64")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "the SAFETY comment below covers all blocks"
)]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::lanes::{LANES, Lanes};
use super::vector::{MAGNITUDE, Vector};
use super::x86_exp2::{exp2_of_eight, exp2_of_sixteen};

/// One register of AVX-512.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

/// Two registers of AVX2.
#[derive(Clone, Copy)]
pub(super) struct Avx2([__m256; 2]);

// SAFETY of all blocks below: `isa.rs` checks that the processor has these instruction sets before it enters a function with these
// types. Loads and stores access whole arrays behind references, or the lanes of a mask.

/// The sum of eight f64: lanes 4, 2 and 1 apart are added.
#[inline(always)]
fn sum_of_halves(low: __m256d, high: __m256d) -> f64 {
    unsafe {
        let four = _mm256_add_pd(low, high);
        let two = _mm_add_pd(
            _mm256_castpd256_pd128(four),
            _mm256_extractf128_pd::<1>(four),
        );
        _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
    }
}

/// The largest of eight unsigned integers.
#[inline(always)]
fn largest_u32(eight: __m256i) -> u32 {
    unsafe {
        let four = _mm_max_epu32(
            _mm256_castsi256_si128(eight),
            _mm256_extracti128_si256::<1>(eight),
        );
        let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b1110>(four));
        let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b01>(two));
        _mm_cvtsi128_si32(one) as u32
    }
}

/// The largest of eight numbers.
#[inline(always)]
fn largest_f32(eight: __m256) -> f32 {
    unsafe {
        let four = _mm_max_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight),
        );
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<0b01>(two, two)))
    }
}

/// The upper halves of eight finite numbers, rounded to nearest, ties to even.
#[inline(always)]
fn upper_halves_of_eight(x: __m256) -> __m256i {
    unsafe {
        let bits = _mm256_castps_si256(x);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, half))
    }
}

/// The mask of the first lanes, fewer than all.
#[inline(always)]
fn first_lanes(count: usize) -> __mmask16 {
    debug_assert!(count < LANES);
    (1 << count) - 1
}

impl Vector for Avx512 {
    const FMA: bool = true;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn load(from: &Lanes) -> Self {
        Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }
    #[inline(always)]
    fn load_part(from: &[f32], fill: f32) -> Self {
        let lanes = first_lanes(from.len());
        // A load with a mask reads the lanes of the mask alone.
        Self(unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), lanes, from.as_ptr()) })
    }
    #[inline(always)]
    fn filled_from(self, first: usize, fill: f32) -> Self {
        Self(unsafe { _mm512_mask_mov_ps(_mm512_set1_ps(fill), first_lanes(first), self.0) })
    }
    #[inline(always)]
    fn store(self, to: &mut Lanes) {
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn store_part(self, to: &mut [f32]) {
        // A store with a mask writes the lanes of the mask alone.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first_lanes(to.len()), self.0) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn from_f16(from: &[f16; LANES]) -> Self {
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) })
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [f16; LANES]) {
        unsafe {
            let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), half);
        }
    }
    #[inline(always)]
    fn from_bf16(from: &[bf16; LANES]) -> Self {
        Self(unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }
    #[inline(always)]
    fn store_bf16(self, to: &mut [bf16; LANES]) {
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let upper = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(upper));
        }
    }
    #[inline(always)]
    fn load_halves(from: &[u16]) -> [u16; LANES] {
        let fill = i16::from_ne_bytes(from[0].to_ne_bytes());
        let lanes = first_lanes(from.len());
        // A load with a mask reads the lanes of the mask alone.
        let loaded = unsafe {
            _mm256_mask_loadu_epi16(_mm256_set1_epi16(fill), lanes, from.as_ptr().cast())
        };
        let mut out = [0; LANES];
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), loaded) }
        out
    }
    #[inline(always)]
    fn store_halves(from: &[u16; LANES], to: &mut [u16]) {
        // A store with a mask writes the lanes of the mask alone.
        unsafe {
            let from = _mm256_loadu_si256(from.as_ptr().cast());
            _mm256_mask_storeu_epi16(to.as_mut_ptr().cast(), first_lanes(to.len()), from);
        }
    }
    #[inline(always)]
    fn max_magnitude(self, b: Self) -> Self {
        Self(unsafe {
            let magnitude = _mm512_set1_epi32(MAGNITUDE as i32);
            let b = _mm512_and_si512(_mm512_castps_si512(b.0), magnitude);
            _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(self.0), b))
        })
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe {
            largest_f32(_mm256_max_ps(
                _mm512_castps512_ps256(self.0),
                _mm512_extractf32x8_ps::<1>(self.0),
            ))
        }
    }
    #[inline(always)]
    fn largest_bits(self) -> u32 {
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            largest_u32(_mm256_max_epu32(
                _mm512_castsi512_si256(bits),
                _mm512_extracti32x8_epi32::<1>(bits),
            ))
        }
    }
    #[inline(always)]
    fn sum(self) -> f64 {
        unsafe {
            let low = _mm512_cvtps_pd(_mm512_castps512_ps256(self.0));
            let high = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(self.0));
            let eight = _mm512_add_pd(low, high);
            sum_of_halves(
                _mm512_castpd512_pd256(eight),
                _mm512_extractf64x4_pd::<1>(eight),
            )
        }
    }
    #[inline(always)]
    fn prefetch<T>(at: *const T) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn prefetch_to_write<T>(at: *const T) {
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) }
    }
    #[inline(always)]
    fn interleave(self, b: Self) -> [Self; 2] {
        unsafe {
            [
                Self(_mm512_unpacklo_ps(self.0, b.0)),
                Self(_mm512_unpackhi_ps(self.0, b.0)),
            ]
        }
    }
    #[inline(always)]
    fn interleave_pairs(self, b: Self) -> [Self; 2] {
        unsafe {
            let (a, b) = (_mm512_castps_pd(self.0), _mm512_castps_pd(b.0));
            [
                Self(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b))),
                Self(_mm512_castpd_ps(_mm512_unpackhi_pd(a, b))),
            ]
        }
    }
    #[inline(always)]
    fn split_fours(self, b: Self) -> [Self; 2] {
        unsafe {
            [
                Self(_mm512_shuffle_f32x4::<0b10_00_10_00>(self.0, b.0)),
                Self(_mm512_shuffle_f32x4::<0b11_01_11_01>(self.0, b.0)),
            ]
        }
    }
    #[inline(always)]
    fn exponent(self) -> Self {
        Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(self.0))) })
    }
    #[inline(always)]
    fn exp2(self) -> Self {
        Self(exp2_of_sixteen(self.0))
    }
}

impl Avx2 {
    /// The mask of the first lanes, fewer than all, from lane `from` on.
    #[inline(always)]
    fn first_lanes(count: usize, from: i32) -> __m256i {
        debug_assert!(count < LANES);
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32 - from), lane)
        }
    }

    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
        Self([f(self.0[0], b.0[0]), f(self.0[1], b.0[1])])
    }
}

impl Vector for Avx2 {
    const FMA: bool = true;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([unsafe { _mm256_set1_ps(x) }; 2])
    }
    #[inline(always)]
    fn load(from: &Lanes) -> Self {
        let (low, high) = from.split_at(8);
        Self(unsafe {
            [
                _mm256_loadu_ps(low.as_ptr()),
                _mm256_loadu_ps(high.as_ptr()),
            ]
        })
    }
    #[inline(always)]
    fn load_part(from: &[f32], fill: f32) -> Self {
        let [low, high] = [
            Self::first_lanes(from.len(), 0),
            Self::first_lanes(from.len(), 8),
        ];
        // A load with a mask reads the lanes of the mask alone. Where the slice has no second half the pointer stays inside.
        let second = from[from.len().min(8)..].as_ptr();
        let loaded = unsafe {
            [
                _mm256_maskload_ps(from.as_ptr(), low),
                _mm256_maskload_ps(second, high),
            ]
        };
        Self(loaded).filled_from(from.len(), fill)
    }
    #[inline(always)]
    fn filled_from(self, first: usize, fill: f32) -> Self {
        let [low, high] = [Self::first_lanes(first, 0), Self::first_lanes(first, 8)];
        unsafe {
            let fill = _mm256_set1_ps(fill);
            Self([
                _mm256_blendv_ps(fill, self.0[0], _mm256_castsi256_ps(low)),
                _mm256_blendv_ps(fill, self.0[1], _mm256_castsi256_ps(high)),
            ])
        }
    }
    #[inline(always)]
    fn store(self, to: &mut Lanes) {
        let (low, high) = to.split_at_mut(8);
        unsafe {
            _mm256_storeu_ps(low.as_mut_ptr(), self.0[0]);
            _mm256_storeu_ps(high.as_mut_ptr(), self.0[1]);
        }
    }
    #[inline(always)]
    fn store_part(self, to: &mut [f32]) {
        let [low, high] = [
            Self::first_lanes(to.len(), 0),
            Self::first_lanes(to.len(), 8),
        ];
        // A store with a mask writes the lanes of the mask alone. Where the slice has no second half the pointer stays inside.
        let second = to.len().min(8);
        unsafe {
            _mm256_maskstore_ps(to.as_mut_ptr(), low, self.0[0]);
            _mm256_maskstore_ps(to[second..].as_mut_ptr(), high, self.0[1]);
        }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { _mm256_add_ps(a, b) })
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { _mm256_sub_ps(a, b) })
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { _mm256_mul_ps(a, b) })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        let fma = |i: usize| unsafe { _mm256_fmadd_ps(self.0[i], b.0[i], c.0[i]) };
        Self([fma(0), fma(1)])
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { _mm256_max_ps(a, b) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.zip(self, |a, _| unsafe { _mm256_sqrt_ps(a) })
    }
    #[inline(always)]
    fn from_f16(from: &[f16; LANES]) -> Self {
        let eight = |i: usize| unsafe {
            _mm256_cvtph_ps(_mm_loadu_si128(from[8 * i..8 * i + 8].as_ptr().cast()))
        };
        Self([eight(0), eight(1)])
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [f16; LANES]) {
        for (eight, to) in self.0.into_iter().zip(to.as_chunks_mut::<8>().0) {
            unsafe {
                let half = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(eight);
                _mm_storeu_si128(to.as_mut_ptr().cast(), half);
            }
        }
    }
    #[inline(always)]
    fn max_magnitude(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe {
            let magnitude = _mm256_set1_epi32(MAGNITUDE as i32);
            let b = _mm256_and_si256(_mm256_castps_si256(b), magnitude);
            _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(a), b))
        })
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe { largest_f32(_mm256_max_ps(self.0[0], self.0[1])) }
    }
    #[inline(always)]
    fn largest_bits(self) -> u32 {
        unsafe {
            let [low, high] = self.0.map(|x| _mm256_castps_si256(x));
            largest_u32(_mm256_max_epu32(low, high))
        }
    }
    #[inline(always)]
    fn sum(self) -> f64 {
        let wide = |x: __m256| unsafe {
            [
                _mm256_cvtps_pd(_mm256_castps256_ps128(x)),
                _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x)),
            ]
        };
        let ([a, b], [c, d]) = (wide(self.0[0]), wide(self.0[1]));
        unsafe { sum_of_halves(_mm256_add_pd(a, c), _mm256_add_pd(b, d)) }
    }
    #[inline(always)]
    fn prefetch<T>(at: *const T) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn prefetch_to_write<T>(at: *const T) {
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) }
    }
    #[inline(always)]
    fn interleave(self, b: Self) -> [Self; 2] {
        [
            self.zip(b, |a, b| unsafe { _mm256_unpacklo_ps(a, b) }),
            self.zip(b, |a, b| unsafe { _mm256_unpackhi_ps(a, b) }),
        ]
    }
    #[inline(always)]
    fn interleave_pairs(self, b: Self) -> [Self; 2] {
        let pairs = |a: __m256, b: __m256| unsafe {
            let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
            [
                _mm256_castpd_ps(_mm256_unpacklo_pd(a, b)),
                _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)),
            ]
        };
        let [low, high] = [pairs(self.0[0], b.0[0]), pairs(self.0[1], b.0[1])];
        [Self([low[0], high[0]]), Self([low[1], high[1]])]
    }
    #[inline(always)]
    fn split_fours(self, b: Self) -> [Self; 2] {
        unsafe {
            [
                Self([
                    _mm256_permute2f128_ps::<0x20>(self.0[0], self.0[1]),
                    _mm256_permute2f128_ps::<0x20>(b.0[0], b.0[1]),
                ]),
                Self([
                    _mm256_permute2f128_ps::<0x31>(self.0[0], self.0[1]),
                    _mm256_permute2f128_ps::<0x31>(b.0[0], b.0[1]),
                ]),
            ]
        }
    }
    #[inline(always)]
    fn exponent(self) -> Self {
        self.zip(self, |a, _| unsafe {
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(a)))
        })
    }
    #[inline(always)]
    fn exp2(self) -> Self {
        Self([exp2_of_eight(self.0[0]), exp2_of_eight(self.0[1])])
    }
    #[inline(always)]
    fn from_bf16(from: &[bf16; LANES]) -> Self {
        let eight = |i: usize| unsafe {
            let halves = _mm_loadu_si128(from[8 * i..8 * i + 8].as_ptr().cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        };
        Self([eight(0), eight(1)])
    }
    #[inline(always)]
    fn store_bf16(self, to: &mut [bf16; LANES]) {
        unsafe {
            let [low, high] = self.0;
            let (low, high) = (upper_halves_of_eight(low), upper_halves_of_eight(high));
            // The halves of both, in fours of 16-bit numbers that alternate.
            let packed = _mm256_packus_epi32(low, high);
            let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), ordered);
        }
    }
}
