//! Joined masks: a class that one row masks, or that the teacher lacks, is masked in both.

use super::row::Row;
use super::tile::{Tile, tile};
use super::vector::Vector;

/// Tiles of student and teacher in which a class that either masks is masked in both. NaN and `+inf` stay.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
#[cfg_attr(target_arch = "wasm32", inline(never))]
pub(super) fn joined<'a>(s: &[f32], t: &[f32], to: &'a mut [Tile; 2]) -> (&'a [f32], &'a [f32]) {
    let [student, teacher] = to;
    let (student, teacher) = (&mut student[..s.len()], &mut teacher[..s.len()]);
    for (((s, t), student), teacher) in s.iter().zip(t).zip(&mut *student).zip(&mut *teacher) {
        let masked = *s == f32::NEG_INFINITY || *t == f32::NEG_INFINITY;
        let join = |own: f32| match masked && own.is_finite() {
            true => f32::NEG_INFINITY,
            false => own,
        };
        (*student, *teacher) = (join(*s), join(*t));
    }
    (student, teacher)
}

/// The tiles of student and teacher in whole lanes, without a copy if possible.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
#[cfg_attr(target_arch = "wasm32", inline(never))]
pub(super) fn both_tiles<'a, V: Vector>(
    row: &Row<'a>,
    start: usize,
    n: usize,
    student: &'a mut Tile,
    teacher: &'a mut Tile,
    to: &'a mut [Tile; 2],
) -> (&'a [f32], &'a [f32]) {
    let s = tile::<V>(row.student, start, n, student);
    let t = tile::<V>(row.teacher, start, n, teacher);
    if !row.setup.masks_joined {
        return (s, t);
    }
    joined(s, t, to)
}

/// The student's tile alone.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
#[cfg_attr(target_arch = "wasm32", inline(never))]
pub(super) fn student_tile<'a, V: Vector>(
    row: &Row<'a>,
    start: usize,
    n: usize,
    student: &'a mut Tile,
    teacher: &'a mut Tile,
    to: &'a mut [Tile; 2],
) -> &'a [f32] {
    match row.setup.masks_joined {
        true => both_tiles::<V>(row, start, n, student, teacher, to).0,
        false => tile::<V>(row.student, start, n, student),
    }
}
