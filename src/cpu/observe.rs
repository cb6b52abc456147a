//! Observe: the statistics of one row, in tiles that stay in the first-level cache.
//!
//! Elementwise arithmetic is f32, in lanes. The sums of a tile are merged in f64, so that the error does not grow with the length of the row.
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use std::ops::Range;

use super::compiled::Compiled;
use super::deviation::Spreads;
use super::row::Row;
use super::second_sweep::second_sweep;
use super::similarity;
use super::sums::Sums;
use super::tile::{Ahead, Scratch, TILE, extremes, measured, tile};
use super::vector::Vector;
use crate::moments::Moment;
use crate::{RowStats, Standardization, flags};

/// Flags of the values of a tile, without its padding, on the checked path.
pub(super) fn inspect(values: &[f32], live: u32, masked: u32) -> u32 {
    values.iter().fold(0, |found, x| {
        found
            | match x.to_bits() {
                0xff80_0000 => masked,
                b if b & 0x7f80_0000 == 0x7f80_0000 => flags::NON_FINITE,
                _ => live,
            }
    })
}

/// Observe: the statistics of one row, KDR included. If `apply` follows, `keep` is the memory of the gradient: the exponentials of a row of
/// at most `MOST_KEPT` tiles then stay in `scratch`.
#[inline(always)]
pub(super) fn observe<V: Compiled>(
    row: &Row<'_>,
    keep: Option<Ahead>,
    scratch: &mut Scratch,
) -> RowStats {
    let classes = row.student.len();
    let keep = keep.filter(|_| scratch.kept.begin(classes, row.applies_exponentials()));
    let mut stats = started(row);
    if stats.flags & flags::IGNORED != 0 {
        return stats;
    }
    let standardized = row.setup.config.standardization != Standardization::None;
    let spreads = standardized.then(|| Spreads::of::<V>(row, scratch));
    let own = spreads.map(|spreads| {
        let [student, teacher] = spreads.deviations();
        row.setup.of_row(student, teacher)
    });
    let row = &Row {
        setup: own.as_ref().unwrap_or(row.setup),
        ..*row
    };
    let setup = row.setup;
    let label = usize::try_from(row.label).ok();
    let label = label.filter(|label| *label < classes);
    let (checked_from, [s_padding, t_padding]) = (setup.checked_from, setup.padding);
    let sampled = setup.rule.sampled;
    let counted = setup.moments.has(Moment::StudentOffset);
    let stored = padding_of_stored(row);
    let mut sums = Sums::EMPTY;
    for start in (0..classes).step_by(TILE) {
        let n = TILE.min(classes - start);
        let ahead = [
            Ahead::behind(row.student, start + n),
            Ahead::behind(row.teacher, start + n),
            keep.map_or(Ahead::nothing(row.student), |gradient| gradient.from(start)),
        ];
        if let Some(padding) = stored
            && add_stored::<V>(
                row,
                start..start + n,
                padding,
                keep.is_some(),
                (ahead, scratch),
                &mut sums,
            )
        {
            continue;
        }
        let left_out = label
            .filter(|label| setup.rule.label_apart && (start..start + n).contains(label))
            .map(|label| label - start);
        let (s, s_max, s_magnitude) = measured::<V>(
            row.student,
            start,
            n,
            (left_out, counted),
            checked_from,
            s_padding,
            &mut scratch.student,
        );
        let (t, t_max, t_magnitude) = match sampled {
            true => (&[][..], f32::MIN, 0),
            false => measured::<V>(
                row.teacher,
                start,
                n,
                (left_out, counted),
                checked_from,
                t_padding,
                &mut scratch.teacher,
            ),
        };
        let s_max = sums.student_max.max(s_max);
        let t_max = sums.teacher_max.max(t_max);
        sums.rescale(s_max, t_max, setup);
        let own = (&mut scratch.first, &mut scratch.second);
        let maxima = (sums.student_max, sums.teacher_max);
        let exps = scratch.kept.room(keep.is_some(), own, maxima);
        // After an earlier tile with a huge maximum, ordinary values need the checked path too: their distance to it may overflow.
        let checked = s_magnitude.max(t_magnitude) >= checked_from
            || s_max.max(t_max) >= f32::from_bits(checked_from);
        if checked {
            // The class that is left out is inspected with its own logits.
            let at = left_out.unwrap_or(n);
            let rest = (at + 1).min(n);
            for part in [0..at, rest..n] {
                sums.flags |= inspect(&s[part.clone()], flags::STUDENT_LIVE, flags::STUDENT_MASKED);
                if !sampled {
                    sums.flags |= inspect(&t[part], flags::TEACHER_LIVE, 0);
                }
            }
        } else {
            sums.flags |= flags::STUDENT_LIVE | flags::TEACHER_LIVE;
        }
        let weights = setup.summed_weights();
        let weights = weights.map(|weights| &weights[start..start + n]);
        match sampled {
            true => sums.add_student::<V>(s, n, setup, exps.0),
            false => sums.add_any::<V>((s, t), n, checked, setup, (exps, ahead), weights),
        }
        if let Some(soft_label) = row.soft_label {
            let y = &tile::<V>(soft_label, start, n, &mut scratch.third)[..n];
            sums.add_soft_label::<V>(s, y, setup);
        }
    }
    if let Some(label) = label {
        if let Some(weights) = setup.class_weights.filter(|_| setup.weights.label) {
            stats.class_weight = weights[label];
        }
        stats.label_logit = row.student.get(label);
        // The teacher may lack the class.
        let teacher = match label < row.teacher.len() {
            true => row.teacher.get(label),
            false => f32::NEG_INFINITY,
        };
        if setup.rule.label_apart && !setup.is_part {
            sums.write_rest(&mut stats);
            sums = sums.with_class(stats.label_logit, teacher, setup);
        }
        if setup.teacher_label || setup.moments.has(Moment::Agreement) {
            stats.teacher_label_logit = teacher;
        }
    }
    if sampled {
        // The only number of the teacher. It may be `-inf`.
        stats.teacher_label_logit = row.teacher.get(0);
        sums.flags |= match stats.teacher_label_logit {
            f32::NEG_INFINITY => flags::TEACHER_LIVE,
            log_q => inspect(&[log_q], flags::TEACHER_LIVE, 0),
        };
    }
    sums.write(&mut stats);
    if let Some(spreads) = spreads {
        spreads.write(setup.student_temperature, &mut stats);
    }
    if row.soft_label.is_some() {
        stats.flags |= flags::SOFT_LABEL;
    }
    if !setup.is_part {
        finish::<V>(row, label.is_some(), &mut stats, scratch);
    }
    stats
}

/// The padding of a row's last vectors, if its tiles are summed in their storage: one storage for both, and no sums that need more than the
/// exponentials. In WebAssembly there are none, for the size of a module.
#[inline(always)]
fn padding_of_stored(row: &Row<'_>) -> Option<[f32; 2]> {
    let setup = row.setup;
    let is_stored = !cfg!(target_arch = "wasm32")
        && row.student.storage() == row.teacher.storage()
        && row.student.len() == row.teacher.len()
        && row.soft_label.is_none()
        && setup.summed_weights().is_none()
        && !setup.rule.label_apart
        && !setup.rule.sampled
        && !setup.moments.has(Moment::StudentOffset)
        && !setup.moments.has(Moment::Agreement);
    match setup.padding {
        [Some(student), Some(teacher)] if is_stored => Some([student, teacher]),
        _ => None,
    }
}

/// Adds a tile in its storage. Returns false, and leaves the sums, if it has values for the checked path.
#[inline(always)]
fn add_stored<V: Compiled>(
    row: &Row<'_>,
    tile: Range<usize>,
    padding: [f32; 2],
    keep: bool,
    (ahead, scratch): ([Ahead; 3], &mut Scratch),
    sums: &mut Sums,
) -> bool {
    let checked_from = row.setup.checked_from;
    let (s, t) = (row.student.part(tile.clone()), row.teacher.part(tile));
    let (s_max, s_magnitude) = extremes::<V>(s).finish();
    let (t_max, t_magnitude) = extremes::<V>(t).finish();
    let maxima = (sums.student_max.max(s_max), sums.teacher_max.max(t_max));
    if s_magnitude.max(t_magnitude) >= checked_from
        || maxima.0.max(maxima.1) >= f32::from_bits(checked_from)
    {
        return false;
    }
    sums.flags |= flags::STUDENT_LIVE | flags::TEACHER_LIVE;
    sums.rescale(maxima.0, maxima.1, row.setup);
    let own = (&mut scratch.first, &mut scratch.second);
    let exps = scratch.kept.room(keep, own, maxima);
    sums.add_stored::<V>((s, t), padding, row.setup, exps, ahead);
    true
}

/// The statistics of a row before its logits are read. An ignored row has no others.
pub(super) fn started(row: &Row<'_>) -> RowStats {
    let ignored = row.label == row.setup.config.ignore_index;
    RowStats {
        label: row.label,
        weight: row.weight,
        flags: if ignored { flags::IGNORED } else { 0 },
        ..RowStats::default()
    }
}

/// Completes the statistics of a row that has its sums: flags, the second sweep, KDR.
#[inline(always)]
pub(super) fn finish<V: Vector>(
    row: &Row<'_>,
    has_label: bool,
    stats: &mut RowStats,
    scratch: &mut Scratch,
) {
    let setup = row.setup;
    let live = flags::STUDENT_LIVE | flags::TEACHER_LIVE;
    if stats.flags & live != live {
        stats.flags |= flags::NON_FINITE;
    }
    if !has_label {
        stats.flags |= flags::INVALID_LABEL;
    }
    if stats.flags & flags::NON_FINITE != 0 {
        stats.kdr = f32::NAN;
        return;
    }
    if setup.second_sweep {
        second_sweep::<V>(row, stats, scratch);
    }
    if !setup.rule.sampled {
        stats.kdr = similarity::kdr(stats, setup.config.similarity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::Isa;
    use crate::cpu::setup::Setup;
    use crate::moments::{Factor, Moment, Moments, Weight};
    use crate::rule::ClassWeights;
    use crate::{Config, Divergence, HardTemperature};

    /// Logits between -8 and 8. Their maximum rises from tile to tile.
    fn logits(classes: usize, factor: u32) -> Vec<f32> {
        let at = |i: usize| {
            let hash = (i as u32 + 1).wrapping_mul(factor);
            (hash >> 8) as f32 / (1u32 << 20) as f32 - 8.0
        };
        let mut all: Vec<f32> = (0..classes).map(at).collect();
        for (i, x) in all.iter_mut().step_by(700).enumerate() {
            *x = 8.0 + i as f32;
        }
        all
    }

    /// A moment by its definition, over the whole row.
    fn by_definition(moment: Moment, s: &[f64], t: &[f64], y: &[f32], setup: &Setup<'_>) -> f64 {
        let (config, [u, v]) = (setup.config, setup.rule.shape_numbers.map(f64::from));
        let temperatures = [config.student_temperature, config.teacher_temperature];
        let [ts, tt] = temperatures.map(f64::from);
        let th = config.label_temperature();
        let max = |x: &[f64]| x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (ms, mt) = (max(s), max(t));
        let term = |(((s, t), soft_label), class_weight): (((&f64, &f64), &f32), &f32)| {
            let class_weight = f64::from(*class_weight);
            let live = f64::from(*s > f64::NEG_INFINITY);
            let (x, y) = (s - ms, t - mt);
            let (ds, dt) = (x / ts, y / tt);
            let weight = match moment.weight() {
                Weight::One => live,
                Weight::Class => live * class_weight,
                Weight::MaskedClass => (1.0 - live) * class_weight,
                Weight::ClassTeacher => live * class_weight * dt.exp(),
                Weight::MaskedClassTeacher => (1.0 - live) * class_weight * dt.exp(),
                Weight::Student => ds.exp(),
                Weight::Teacher => dt.exp(),
                Weight::Unseen if *t > f64::NEG_INFINITY => 0.0,
                Weight::Unseen => ds.exp(),
                Weight::Both => (ds + dt).exp(),
                Weight::RootOfBoth => (0.5 * (ds + dt)).exp(),
                Weight::StudentSquare => (2.0 * ds).exp(),
                Weight::TeacherSquare => (2.0 * dt).exp(),
                Weight::Power => (u * dt + v * ds).exp(),
                Weight::StudentPower => ((u + v) * ds).exp(),
                Weight::TeacherPower => ((u + v) * dt).exp(),
                Weight::Hard => (x / th).exp(),
                Weight::TeacherHard => (y / th).exp(),
                Weight::Peak => f64::from(x == 0.0 && y == 0.0),
                Weight::SoftLabel => f64::from(*soft_label),
            };
            let factor = match moment.factor() {
                Factor::One => 1.0,
                Factor::Student => ds,
                Factor::Teacher => dt,
                Factor::TeacherMinusStudent => dt - ds,
                Factor::StudentMinusTeacher => ds - dt,
            };
            // The student's masked classes take no part in the moments with a factor, nor do the teacher's in those of differences.
            let student_masked = *s == f64::NEG_INFINITY && moment.factor() != Factor::One;
            if weight == 0.0 || student_masked || factor.is_infinite() {
                return 0.0;
            }
            weight * factor
        };
        let weights = setup.class_weights.expect("every moment has its inputs");
        s.iter().zip(t).zip(y).zip(weights).map(term).sum()
    }

    /// All moments at once, in one tile and in several, with masked classes and without, on every instruction set.
    #[test]
    fn every_moment_is_its_definition() {
        let config = Config {
            divergence: Divergence::AlphaBeta {
                alpha: 0.75,
                beta: 0.5,
            },
            student_temperature: 1.5,
            teacher_temperature: 0.75,
            hard_temperature: HardTemperature::Own(2.5),
            ..Config::default()
        };
        let weights: Vec<f32> = (0..3000).map(|i| (i * 7 % 5) as f32 * 0.5).collect();
        let mut setup = Setup::of(&config, false);
        setup.moments = Moments::of(&Moment::ALL);
        setup.class_weights = Some(&weights);
        setup.weights = ClassWeights {
            label: true,
            smoothing: true,
            soft: true,
        };
        for (classes, masked) in [(37, 0), (1024, 0), (3000, 0), (37, 3), (2999, 3), (3000, 7)] {
            let mut s = logits(classes, 0x9e37_79b1);
            let mut t = logits(classes, 0x85eb_ca6b);
            if masked > 0 {
                (1..classes)
                    .step_by(masked)
                    .for_each(|i| s[i] = f32::NEG_INFINITY);
                (0..classes)
                    .step_by(masked + 2)
                    .for_each(|i| t[i] = f32::NEG_INFINITY);
            } else {
                s[classes - 1] = 40.0;
                t[classes - 1] = 40.0;
            }
            // A moment has no meaning if the student masks a class of the soft label.
            let share = |i: usize| match s[i] {
                f32::NEG_INFINITY => 0.0,
                _ => (i % 7) as f32 / 64.0,
            };
            let y: Vec<f32> = (0..classes).map(share).collect();
            let row = Row {
                student: (&s[..]).into(),
                teacher: (&t[..]).into(),
                ids: None,
                label: 0,
                soft_label: Some((&y[..]).into()),
                weight: 1.0,
                setup: &setup,
            };
            let wide = |x: &[f32]| -> Vec<f64> { x.iter().copied().map(f64::from).collect() };
            let (wide_s, wide_t) = (wide(&s), wide(&t));
            for isa in Isa::available() {
                let stats = isa.observe(&row, None, &mut Scratch::boxed());
                for moment in Moment::ALL {
                    let want = by_definition(moment, &wide_s, &wide_t, &y, &setup);
                    let got = f64::from(moment.of(&stats));
                    let bound = 2e-6 * want.abs() + 1e-6;
                    assert!(
                        (got - want).abs() <= bound,
                        "{} with {classes} classes, masks {masked}, {}: {got}, want {want}",
                        moment.field(),
                        isa.name()
                    );
                }
            }
        }
    }
}
