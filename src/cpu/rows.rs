//! Rows whose teacher is a list of classes with their log-probabilities. Such a row of the loss has the classes of the list, and the tail,
//! which stands for all others.
//!
//! Observe sums the student's classes off the list; the list and the tail are then a short row of their own. Apply finds the gradient of that
//! short row, and gives the tail's to the classes off the list, each its share.
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use super::apply::{apply, is_filled};
use super::compiled::{Compiled, RowToWrite};
use super::lanes::LANES;
use super::list::List;
use super::masks::joined;
use super::observe::{finish, inspect, observe, started};
use super::row::Row;
use super::second_sweep::second_sweep;
use super::setup::Setup;
use super::sums::Sums;
use super::tile::{Ahead, Scratch, TILE, measured, measured_without};
use super::vector::Vector;
use crate::validate::listed::MOST_ENTRIES;
use crate::{Decision, GradWrite, RowStats, Values, ValuesMut, flags};

// The list is one tile.
const _: () = assert!(MOST_ENTRIES <= TILE);

/// Observe: the statistics of any row. With `keep`, its exponentials may stay in `scratch` for [`apply_row`].
#[inline(always)]
pub(super) fn observe_row<V: Compiled>(
    row: &Row<'_>,
    keep: Option<Ahead>,
    scratch: &mut Scratch,
) -> RowStats {
    let mut memory = std::mem::take(&mut scratch.joined);
    let row = &joined::<V>(row, &mut memory);
    let stats = match row.ids {
        Some(ids) => observe_list::<V>(row, ids, keep, scratch),
        None => observe::<V>(row, keep, scratch),
    };
    scratch.joined = memory;
    stats
}

/// The second sweep over the columns of any row.
#[inline(always)]
pub(super) fn sweep_row<V: Vector>(row: &Row<'_>, stats: &mut RowStats, scratch: &mut Scratch) {
    let mut memory = std::mem::take(&mut scratch.joined);
    second_sweep::<V>(&joined::<V>(row, &mut memory), stats, scratch);
    scratch.joined = memory;
}

/// Apply: one row of the gradient, of any row.
#[inline(always)]
pub(super) fn apply_row<V: Compiled>(
    row: &Row<'_>,
    decision: &Decision,
    gradient: ValuesMut<'_>,
    kept: bool,
    scratch: &mut Scratch,
) {
    let mut memory = std::mem::take(&mut scratch.joined);
    let row = &joined::<V>(row, &mut memory);
    match row.ids {
        Some(_) => apply_list::<V>(row, decision, gradient, kept, scratch),
        None => apply::<V>(row, decision, gradient, kept, scratch),
    }
    scratch.joined = memory;
}

#[inline(always)]
fn observe_list<V: Compiled>(
    row: &Row<'_>,
    ids: &[i32],
    keep: Option<Ahead>,
    scratch: &mut Scratch,
) -> RowStats {
    let keep = keep.is_some()
        && scratch
            .kept
            .begin(row.student.len(), row.applies_exponentials());
    let mut stats = started(row);
    if stats.flags & flags::IGNORED != 0 {
        return stats;
    }
    let mut list = std::mem::take(&mut scratch.list);
    list.read(ids, row.teacher);
    let rest = off_list::<V>(row, &list, keep, scratch);
    (list.rest_max, list.rest_sum) = (rest.student_max, rest.zs);
    let classes = row.student.len();
    let tail = list.tail(row.setup.config.teacher_tail, classes);
    let listed = on_list::<V>(row, &mut list, scratch);
    let of_tail = tail_sums(&rest, tail, row.setup);
    let sums = listed.merged(of_tail, row.setup);
    let maxima = (sums.student_max, sums.teacher_max);
    list.make_relative(maxima, tail, row.setup.student_temperature);
    let label = usize::try_from(row.label).ok();
    let label = label.filter(|label| *label < classes);
    if let Some(label) = label {
        stats.label_logit = row.student.get(label);
    }
    sums.write(&mut stats);
    of_tail.write_tail(&mut stats);
    // The second sweep reads logits relative to the maxima.
    let maxima = (stats.student_max, stats.teacher_max);
    (stats.student_max, stats.teacher_max) = (0.0, 0.0);
    let short = as_row(&list, row);
    finish::<V>(&short, label.is_some(), &mut stats, scratch);
    (stats.student_max, stats.teacher_max) = maxima;
    scratch.list = list;
    stats
}

/// Prepares [`apply_row`] for a row that was not the last observed, from its statistics. Rows without a list need nothing.
pub(super) fn recall(row: &Row<'_>, stats: &RowStats, scratch: &mut Scratch) {
    let Some(ids) = row.ids else {
        return;
    };
    let list = &mut scratch.list;
    if !stats.has_sums() {
        *list = List::default();
        return;
    }
    list.read(ids, row.teacher);
    list.read_student(row.student);
    (list.rest_max, list.rest_sum) = (stats.rest_student_max, stats.rest_student_sum.into());
    let tail = f64::from(stats.rest_teacher_sum) * f64::from(stats.rest_teacher_max).exp();
    let maxima = (stats.student_max, stats.teacher_max);
    list.make_relative(maxima, tail, row.setup.student_temperature);
}

/// The student's sums over the classes off the list.
#[inline(always)]
fn off_list<V: Vector>(row: &Row<'_>, list: &List, keep: bool, scratch: &mut Scratch) -> Sums {
    let (setup, classes) = (row.setup, row.student.len());
    let mut sums = Sums::EMPTY;
    for start in (0..classes).step_by(TILE) {
        let n = TILE.min(classes - start);
        let here = list.within(start, start + n);
        let columns = here.iter().map(|entry| entry.class as usize - start);
        let checked_from = setup.checked_from;
        let tile = &mut scratch.student;
        let (s, max, magnitude) = match here.is_empty() {
            true => measured::<V>(
                row.student,
                start,
                n,
                (None, false),
                checked_from,
                setup.padding[0],
                tile,
            ),
            false => measured_without::<V>(row.student, start, n, columns.clone(), tile),
        };
        let max = sums.student_max.max(max);
        sums.rescale(max, f32::MIN, setup);
        if magnitude >= checked_from || max >= f32::from_bits(checked_from) {
            let mut from = 0;
            for column in columns.chain([n]) {
                let live = flags::STUDENT_LIVE;
                sums.flags |= inspect(&s[from..column.max(from)], live, flags::STUDENT_MASKED);
                from = column + 1;
            }
        } else if here.len() < n {
            sums.flags |= flags::STUDENT_LIVE;
        }
        let own = (&mut scratch.first, &mut scratch.second);
        let (es, _) = scratch.kept.room(keep, own, (sums.student_max, f32::MIN));
        sums.add_student::<V>(s, n, setup, es);
    }
    sums
}

/// The sums over the classes of the list.
#[inline(always)]
fn on_list<V: Compiled>(row: &Row<'_>, list: &mut List, scratch: &mut Scratch) -> Sums {
    let setup = row.setup;
    let n = list.entries.len();
    let padded = n.next_multiple_of(LANES);
    let (s, t) = (
        &mut scratch.student[..padded],
        &mut scratch.teacher[..padded],
    );
    s.fill(f32::NEG_INFINITY);
    t.fill(f32::NEG_INFINITY);
    list.read_student(row.student);
    let mut sums = Sums::EMPTY;
    for (i, (&student, &teacher)) in list.student.iter().zip(&list.teacher).enumerate() {
        (s[i], t[i]) = (student, teacher);
        sums.student_max = sums.student_max.max(student);
        sums.teacher_max = sums.teacher_max.max(teacher);
    }
    sums.flags |= inspect(&s[..n], flags::STUDENT_LIVE, flags::STUDENT_MASKED);
    sums.flags |= inspect(&t[..n], flags::TEACHER_LIVE, 0);
    let exps = (&mut scratch.first, &mut scratch.second);
    if n > 0 && sums.flags & flags::NON_FINITE == 0 {
        sums.add_any::<V>(
            (s, t),
            n,
            true,
            setup,
            (exps, [Ahead::nothing(row.student); 3]),
            None,
        );
    }
    sums
}

/// The sums of the tail as one class, from those of the student off the list and the teacher's probability. The moments of the hard part are
/// those of its classes.
fn tail_sums(rest: &Sums, probability: f64, setup: &Setup<'_>) -> Sums {
    let teacher = match probability > 0.0 {
        true => {
            let max = probability.ln() as f32;
            (max, probability / f64::from(max).exp())
        }
        false => (f32::MIN, 0.0),
    };
    let mut sums = Sums::of_class((rest.student_max, rest.zs), teacher, setup);
    sums.flags = rest.flags;
    if probability > 0.0 {
        sums.flags |= flags::TEACHER_LIVE;
    }
    for moment in setup.moments.iter().filter(|m| m.is_of_hard_part()) {
        sums.set(moment, rest.of(moment));
    }
    sums
}

/// The list and the tail as a row without a label.
fn as_row<'a>(list: &'a List, row: &Row<'a>) -> Row<'a> {
    Row {
        student: Values::F32(&list.student),
        teacher: Values::F32(&list.teacher),
        ids: None,
        label: -1,
        ..*row
    }
}

/// The row must be the one that was observed last, or [`recall`]ed.
#[inline(always)]
fn apply_list<V: Compiled>(
    row: &Row<'_>,
    decision: &Decision,
    mut gradient: ValuesMut<'_>,
    kept: bool,
    scratch: &mut Scratch,
) {
    let setup = row.setup;
    if is_filled(row, decision, &mut gradient) {
        return;
    }
    let mut list = std::mem::take(&mut scratch.list);
    let k = list.entries.len();
    // The terms of the divergence and of the student's probability; the hard part's others follow.
    let short = Decision {
        student_max: 0.0,
        teacher_max: 0.0,
        hard_scale: 0.0,
        uniform_share: 0.0,
        label: -1,
        ..*decision
    };
    let mut of_short = std::mem::take(&mut list.gradient);
    of_short.resize(k + 1, 0.0);
    let target = ValuesMut::F32(&mut of_short);
    V::write_tiles::<false, false>(RowToWrite {
        row: &as_row(&list, row),
        decision: &short,
        gradient: target,
        kept: false,
        listed: &[],
        scratch,
    });

    let hard = |relative: f32| {
        let distance = f64::from(relative) / setup.config.label_temperature();
        f64::from(decision.hard_scale) * distance.exp()
    };
    let mut listed = std::mem::take(&mut scratch.listed);
    listed.clear();
    for ((entry, relative), soft) in list.entries.iter().zip(&list.student).zip(&of_short) {
        let mut value = *soft;
        if setup.own_hard {
            value += hard(*relative) as f32;
        }
        if !(setup.smooths_unmasked && *relative == f32::NEG_INFINITY) {
            value -= decision.uniform_share;
        }
        if i64::from(entry.class) == i64::from(decision.label) {
            value -= decision.label_share;
        }
        listed.push((entry.class, value));
    }
    let rest_relative = list.rest_max - decision.student_max;
    let has_rest = list.rest_sum > 0.0;
    let off_list = Decision {
        student_max: list.rest_max,
        student_scale: match has_rest {
            true => (f64::from(of_short[k]) / list.rest_sum) as f32,
            false => 0.0,
        },
        hard_scale: if has_rest {
            hard(rest_relative) as f32
        } else {
            0.0
        },
        ..*decision
    };
    let to_write = RowToWrite {
        row,
        decision: &off_list,
        gradient,
        kept,
        listed: &listed,
        scratch,
    };
    match setup.config.grad_write {
        GradWrite::Accumulate => V::write_tiles::<true, false>(to_write),
        GradWrite::Overwrite => V::write_tiles::<false, false>(to_write),
    }
    list.gradient = of_short;
    (scratch.list, scratch.listed) = (list, listed);
}
