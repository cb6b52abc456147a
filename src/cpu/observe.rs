//! Observe: the statistics of one row, in tiles that stay in the first-level cache.
//!
//! Elementwise arithmetic is f32, in lanes. The sums of a tile are merged in f64, so that the error does not grow with the length of the row.
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use super::row::Row;
use super::second_sweep::second_sweep;
use super::similarity;
use super::sums::Sums;
use super::tile::{Scratch, TILE, measured};
use super::vector::Vector;
use crate::{RowStats, flags};

/// Flags of the values of a tile, without its padding, on the checked path.
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

/// Observe: the statistics of one row, KDR included. With `keep`, the exponentials of a row of
/// at most `MOST_KEPT` tiles stay in `scratch` for `apply`.
#[inline(always)]
pub(super) fn observe<V: Vector>(row: &Row<'_>, keep: bool, scratch: &mut Scratch) -> RowStats {
    let classes = row.student.len();
    let keep = keep && scratch.kept.begin(classes);
    let mut stats = RowStats {
        label: row.label,
        weight: row.weight,
        ..RowStats::default()
    };
    let setup = row.setup;
    if row.label == setup.config.ignore_index {
        stats.flags = flags::IGNORED;
        return stats;
    }
    let label = usize::try_from(row.label).ok();
    let label = label.filter(|label| *label < classes);
    let (checked_from, [s_padding, t_padding]) = (setup.checked_from, setup.padding);
    let mut sums = Sums::EMPTY;
    for start in (0..classes).step_by(TILE) {
        let n = TILE.min(classes - start);
        let left_out = label
            .filter(|label| setup.rule.label_apart && (start..start + n).contains(label))
            .map(|label| label - start);
        let (s, s_max, s_magnitude) = measured(
            row.student,
            start,
            n,
            left_out,
            checked_from,
            s_padding,
            &mut scratch.student,
        );
        let (t, t_max, t_magnitude) = measured(
            row.teacher,
            start,
            n,
            left_out,
            checked_from,
            t_padding,
            &mut scratch.teacher,
        );
        let s_max = sums.student_max.max(s_max);
        let t_max = sums.teacher_max.max(t_max);
        sums.rescale(s_max, t_max, setup);
        let exps = if keep {
            scratch.kept.next((sums.student_max, sums.teacher_max))
        } else {
            (&mut scratch.first, &mut scratch.second)
        };
        // After an earlier tile with a huge maximum, ordinary values need the checked path too: their distance to it may overflow.
        let checked = s_magnitude.max(t_magnitude) >= checked_from
            || s_max.max(t_max) >= f32::from_bits(checked_from);
        if checked {
            // The class that is left out is inspected with its own logits.
            let at = left_out.unwrap_or(n);
            let rest = (at + 1).min(n);
            for part in [0..at, rest..n] {
                sums.flags |= inspect(&s[part.clone()], flags::STUDENT_LIVE, flags::STUDENT_MASKED);
                sums.flags |= inspect(&t[part], flags::TEACHER_LIVE, 0);
            }
        } else {
            sums.flags |= flags::STUDENT_LIVE | flags::TEACHER_LIVE;
        }
        sums.add_any::<V>((s, t), n, checked, setup, exps);
    }
    if let Some(label) = label {
        stats.label_logit = row.student.get(label);
        if setup.rule.label_apart {
            // The teacher may lack the class.
            let teacher = match label < row.teacher.len() {
                true => row.teacher.get(label),
                false => f32::NEG_INFINITY,
            };
            sums.write_rest(&mut stats);
            sums = sums.with_class(stats.label_logit, teacher, setup);
            stats.teacher_label_logit = teacher;
        }
    }
    sums.write(&mut stats);
    let live = flags::STUDENT_LIVE | flags::TEACHER_LIVE;
    if stats.flags & live != live {
        stats.flags |= flags::NON_FINITE;
    }
    if label.is_none() {
        stats.flags |= flags::INVALID_LABEL;
    }
    if stats.flags & flags::NON_FINITE != 0 {
        stats.kdr = f32::NAN;
        return stats;
    }
    if setup.second_sweep {
        second_sweep::<V>(row, &mut stats, scratch);
    }
    stats.kdr = similarity::kdr(&stats, setup.config.similarity);
    stats
}
