//! Tests of the exponentials of all instruction sets.

use super::isa::{Baseline, Isa};
use super::lanes::LANES;
use super::scalar::exp2;
use super::vector::Vector;
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};

/// Checks an exponential against f64, over all exponents of its range.
fn check(exp2: impl Fn(f32) -> f32) {
    let error = |i: i32| {
        let x = -(i as f32) * 126.0 / 400_000.0;
        let exact = f64::from(x).exp2();
        (f64::from(exp2(x)) - exact).abs() / exact
    };
    let worst = (0..400_000).map(error).fold(0.0, f64::max);
    assert!(worst < 2.4e-7, "{worst}");
    assert_eq!(exp2(0.0), 1.0);
    assert_eq!(exp2(-126.0), f32::MIN_POSITIVE);
    for tiny in [f32::NEG_INFINITY, f32::MIN, -1e30, -128.0, -126.6] {
        assert_eq!(exp2(tiny), 0.0, "{tiny}");
    }
}

/// `exp2` of one number in all lanes.
#[inline(always)]
fn in_lanes<V: Vector>(x: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    V::splat(x).exp2().store(&mut lanes);
    assert_eq!(lanes, [lanes[0]; LANES]);
    lanes[0]
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn in_avx2(x: f32) -> f32 {
    in_lanes::<Avx2>(x)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
fn in_avx512(x: f32) -> f32 {
    in_lanes::<Avx512>(x)
}

#[test]
fn exp2_is_within_two_units_of_f64() {
    check(exp2::<Baseline>);
    for isa in Isa::available() {
        match isa {
            Isa::Baseline => check(in_lanes::<Baseline>),
            // SAFETY: `available` has checked that the processor has the features.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => check(|x| unsafe { in_avx2(x) }),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => check(|x| unsafe { in_avx512(x) }),
        }
    }
}
