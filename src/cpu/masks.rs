//! Joined masks: a class that one row masks, or that the teacher lacks, is masked in both.

use super::lanes::LANES;
use super::row::Row;
use super::tile::widen;
use super::vector::Vector;
use crate::Values;

/// The row that observe and apply see: with joined masks a copy of both sides in `to`, else the row itself.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
#[cfg_attr(target_arch = "wasm32", inline(never))]
pub(super) fn joined<'a, V: Vector>(row: &Row<'a>, to: &'a mut Vec<f32>) -> Row<'a> {
    if !row.setup.masks_joined || row.label == row.setup.config.ignore_index {
        return *row;
    }
    let classes = row.student.len();
    let padded = classes.next_multiple_of(LANES);
    to.resize(2 * padded, 0.0);
    let (student, teacher) = to.split_at_mut(padded);
    copy::<V>(row.student, student);
    copy::<V>(row.teacher, teacher);
    for (s, t) in student.iter_mut().zip(&mut *teacher) {
        let masked = *s == f32::NEG_INFINITY || *t == f32::NEG_INFINITY;
        // NaN and `+inf` stay, so that their row is found.
        let join = |own: f32| match masked && own.is_finite() {
            true => f32::NEG_INFINITY,
            false => own,
        };
        (*s, *t) = (join(*s), join(*t));
    }
    Row {
        student: Values::F32(&student[..classes]),
        teacher: Values::F32(&teacher[..classes]),
        ..*row
    }
}

/// The values as f32 in whole lanes. Those that are not there are masked.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
#[cfg_attr(target_arch = "wasm32", inline(never))]
fn copy<V: Vector>(values: Values<'_>, to: &mut [f32]) {
    let have = values.len();
    match values {
        Values::F32(v) => widen::<V, _>(v, to),
        Values::F16(v) => widen::<V, _>(v, to),
        Values::Bf16(v) => widen::<V, _>(v, to),
    };
    to[have..].fill(f32::NEG_INFINITY);
}
