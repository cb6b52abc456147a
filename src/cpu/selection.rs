//! TSSR from TSTR and KDR.

use crate::Selection;

pub(super) fn select_tssr(selection: Selection, tstr: f32, kdr: f32) -> f32 {
    match selection {
        Selection::Max => tstr.max(kdr),
        Selection::Min => tstr.min(kdr),
        Selection::Mean => 0.5 * (tstr + kdr),
        Selection::Product => tstr * kdr,
        Selection::Tstr => tstr,
        Selection::Kdr => kdr,
        Selection::Fixed(w) => w,
    }
}

/// The derivative of TSSR with respect to KDR; 0 where `Max` or `Min` find both equal.
pub(super) fn tssr_by_kdr(selection: Selection, tstr: f32, kdr: f32) -> f64 {
    match selection {
        Selection::Max => f64::from(u8::from(kdr > tstr)),
        Selection::Min => f64::from(u8::from(kdr < tstr)),
        Selection::Mean => 0.5,
        Selection::Product => f64::from(tstr),
        Selection::Kdr => 1.0,
        Selection::Tstr | Selection::Fixed(_) => 0.0,
    }
}
