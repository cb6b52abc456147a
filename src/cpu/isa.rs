//! The row functions compiled for several instruction sets, chosen when the program runs.

use super::apply::write_tiles;
use super::compiled::{Compiled, PlainTile, RowToWrite};
use super::element::Element;
use super::group::{Group, Groups};
#[cfg(target_arch = "aarch64")]
pub(super) use super::neon::Neon as Baseline;
#[cfg(not(any(
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
)))]
pub(super) use super::portable::Portable as Baseline;
use super::row::Row;
use super::rows::{apply_row, observe_row, sweep_row};
use super::scalar::exponentials;
use super::setup::Setup;
use super::sums::Sums;
use super::tile::{Ahead, Scratch};
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(super) use super::wasm::Simd128 as Baseline;
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};
use crate::{Decision, RowStats, ValuesMut};

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The widest instruction set of this processor.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::Baseline)
    }

    /// The instruction sets of this processor, narrowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "other architectures have only the baseline")]
        let mut found = vec![Self::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                found.push(Self::Avx2);
                if has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq") {
                    found.push(Self::Avx512);
                }
            }
        }
        found
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline if cfg!(target_arch = "aarch64") => "NEON",
            Self::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512",
        }
    }

    pub(super) fn observe(
        self,
        row: &Row<'_>,
        keep: Option<Ahead>,
        scratch: &mut Scratch,
    ) -> RowStats {
        match self {
            Self::Baseline => observe_row::<Baseline>(row, keep, scratch),
            // SAFETY: only `available` makes these values, after it has checked that the processor has every feature named below.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { observe_avx2(row, keep, scratch) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { observe_avx512(row, keep, scratch) },
        }
    }

    pub(super) fn exponentials(self, tiles: usize) -> f64 {
        match self {
            Self::Baseline => exponentials::<Baseline>(tiles),
            // SAFETY: only `available` makes these values, after it has checked that the processor has every feature named below.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { exponentials_avx2(tiles) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { exponentials_avx512(tiles) },
        }
    }

    /// [`Groups::distill`]
    pub(super) fn distill(self, groups: &Groups<'_>, group: Group<'_, '_>) -> u32 {
        match self {
            Self::Baseline => groups.distill::<Baseline>(group),
            // SAFETY: only `available` makes these values, after it has checked that the processor has every feature named below.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { distill_avx2(groups, group) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { distill_avx512(groups, group) },
        }
    }

    /// Fills in the sums of the second sweep over the columns of `row`, given the statistics of all classes.
    pub(super) fn sweep(self, row: &Row<'_>, stats: &mut RowStats, scratch: &mut Scratch) {
        match self {
            Self::Baseline => sweep_row::<Baseline>(row, stats, scratch),
            // SAFETY: only `available` makes these values, after it has checked that the processor has every feature named below.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { sweep_avx2(row, stats, scratch) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { sweep_avx512(row, stats, scratch) },
        }
    }

    pub(super) fn apply(
        self,
        row: &Row<'_>,
        decision: &Decision,
        gradient: ValuesMut<'_>,
        kept: bool,
        scratch: &mut Scratch,
    ) {
        match self {
            Self::Baseline => {
                apply_row::<Baseline>(row, decision, gradient, kept, scratch);
            }
            // SAFETY: only `available` makes these values, after it has checked that the processor has every feature named below.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { apply_avx2(row, decision, gradient, kept, scratch) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { apply_avx512(row, decision, gradient, kept, scratch) },
        }
    }
}

impl Compiled for Baseline {
    #[cfg_attr(not(target_arch = "wasm32"), inline(never))]
    fn write_tiles<const ACCUMULATE: bool, const PLAIN: bool>(row: RowToWrite<'_>) {
        write_tiles::<Self>((ACCUMULATE, PLAIN), row);
    }

    #[cfg_attr(not(target_arch = "wasm32"), inline(never))]
    fn add_plain<T: Element>(sums: &mut Sums, tile: PlainTile<'_, T>, setup: &Setup<'_>) {
        sums.add_plain::<Self, T>(tile, setup);
    }
}

#[cfg(target_arch = "x86_64")]
impl Compiled for Avx2 {
    #[inline(always)]
    fn write_tiles<const ACCUMULATE: bool, const PLAIN: bool>(row: RowToWrite<'_>) {
        // SAFETY: functions of these vectors run only where `Isa` has checked the processor's features.
        unsafe { write_tiles_avx2::<ACCUMULATE, PLAIN>(row) }
    }

    #[inline(always)]
    fn add_plain<T: Element>(sums: &mut Sums, tile: PlainTile<'_, T>, setup: &Setup<'_>) {
        // SAFETY: as above.
        unsafe { add_plain_avx2(sums, tile, setup) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Compiled for Avx512 {
    #[inline(always)]
    fn write_tiles<const ACCUMULATE: bool, const PLAIN: bool>(row: RowToWrite<'_>) {
        // SAFETY: functions of these vectors run only where `Isa` has checked the processor's features.
        unsafe { write_tiles_avx512::<ACCUMULATE, PLAIN>(row) }
    }

    #[inline(always)]
    fn add_plain<T: Element>(sums: &mut Sums, tile: PlainTile<'_, T>, setup: &Setup<'_>) {
        // SAFETY: as above.
        unsafe { add_plain_avx512(sums, tile, setup) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn write_tiles_avx2<const ACCUMULATE: bool, const PLAIN: bool>(row: RowToWrite<'_>) {
    write_tiles::<Avx2>((ACCUMULATE, PLAIN), row);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn add_plain_avx2<T: Element>(sums: &mut Sums, tile: PlainTile<'_, T>, setup: &Setup<'_>) {
    sums.add_plain::<Avx2, T>(tile, setup);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
#[inline(never)]
fn write_tiles_avx512<const ACCUMULATE: bool, const PLAIN: bool>(row: RowToWrite<'_>) {
    write_tiles::<Avx512>((ACCUMULATE, PLAIN), row);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
#[inline(never)]
fn add_plain_avx512<T: Element>(sums: &mut Sums, tile: PlainTile<'_, T>, setup: &Setup<'_>) {
    sums.add_plain::<Avx512, T>(tile, setup);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn observe_avx2(row: &Row<'_>, keep: Option<Ahead>, scratch: &mut Scratch) -> RowStats {
    observe_row::<Avx2>(row, keep, scratch)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
fn observe_avx512(row: &Row<'_>, keep: Option<Ahead>, scratch: &mut Scratch) -> RowStats {
    observe_row::<Avx512>(row, keep, scratch)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn sweep_avx2(row: &Row<'_>, stats: &mut RowStats, scratch: &mut Scratch) {
    sweep_row::<Avx2>(row, stats, scratch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
fn sweep_avx512(row: &Row<'_>, stats: &mut RowStats, scratch: &mut Scratch) {
    sweep_row::<Avx512>(row, stats, scratch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn apply_avx2(
    row: &Row<'_>,
    decision: &Decision,
    gradient: ValuesMut<'_>,
    kept: bool,
    scratch: &mut Scratch,
) {
    apply_row::<Avx2>(row, decision, gradient, kept, scratch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
fn apply_avx512(
    row: &Row<'_>,
    decision: &Decision,
    gradient: ValuesMut<'_>,
    kept: bool,
    scratch: &mut Scratch,
) {
    apply_row::<Avx512>(row, decision, gradient, kept, scratch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn exponentials_avx2(tiles: usize) -> f64 {
    exponentials::<Avx2>(tiles)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
fn exponentials_avx512(tiles: usize) -> f64 {
    exponentials::<Avx512>(tiles)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn distill_avx2(groups: &Groups<'_>, group: Group<'_, '_>) -> u32 {
    groups.distill::<Avx2>(group)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
fn distill_avx512(groups: &Groups<'_>, group: Group<'_, '_>) -> u32 {
    groups.distill::<Avx512>(group)
}
