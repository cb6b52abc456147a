//! Laws that hold for every batch, tested on random shapes, strides, storage types and options.
//!
//! Each engine's results are compared with other results of the same engine.
//!
//! A normal run uses the same cases every time. `WGPU_DISTILL_DEPTH=long` uses many more, and other ones each time.

use crate::cases;
mod agree;
mod any_case;
mod bounds;
mod divergences;
mod drawn;
mod lists;
mod losses;
mod margins;
mod prefix;
mod sampled;
mod segments;
mod similarity;
mod slopes;

use crate::cases::Tolerance;
use crate::cases::compare::Outcome;
use crate::cases::inputs::Random;
use agree::{close, gradients, outcomes, row_results, same_bits, summaries};
use drawn::{LARGEST, Masked, STEP, drawn, on_every_engine};
use proptest::strategy::Strategy;
use wgpu_distill::{
    Divergence, HardTemperature, Reduction, Scope, Selection, SmoothedClasses, Storage, flags,
};

/// The largest common offset that keeps every logit of a storage type exact, in units of the batch.
fn offset_room(storage: Storage) -> f32 {
    match storage {
        Storage::F32 => (1u32 << 19) as f32,
        Storage::F16 => 256.0 - LARGEST - STEP,
        Storage::Bf16 => 32.0 - LARGEST - STEP,
    }
}

#[test]
fn a_common_offset_changes_no_bit() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, mut drawn| {
            // The z-loss is about the offset.
            drawn.config.z_loss = 0.0;
            let want = drawn.run(engine)?;
            let mut moved = drawn.clone();
            let mut random = Random::new(drawn.seed);
            for (side, storage) in [&mut moved.student, &mut moved.teacher]
                .into_iter()
                .zip(drawn.storage)
            {
                for row in side.chunks_mut(drawn.classes) {
                    let room = offset_room(storage) / STEP;
                    let offset = ((2.0 * random.unit() - 1.0) * room).trunc() * STEP * drawn.unit;
                    row.iter_mut().for_each(|x| *x += offset);
                }
            }
            let got = moved.run(engine)?;
            same_bits(&drawn, &got, &want)
        },
    );
}

/// If logits and temperature are multiplied by a power of two, the probabilities stay the same and the gradient is divided by it.
#[test]
fn the_temperature_is_the_unit_of_the_logits() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, mut drawn| {
            drawn.config.temperature_scaling = Default::default();
            // The quotient may be a subnormal f16.
            if drawn.storage[2] == Storage::F16 {
                drawn.storage[2] = Storage::F32;
            }
            let times = [0.25f32, 2.0, 16.0][drawn.seed as usize % 3];
            let mut moved = drawn.clone();
            moved.config.student_temperature *= times;
            // At the hard part's temperature the teacher has a part too.
            let divergence = drawn.config.divergence;
            if matches!(divergence, Divergence::Nkd { .. } | Divergence::Wsld) {
                return Ok(());
            }
            if let HardTemperature::Own(own) = &mut moved.config.hard_temperature {
                *own *= times;
            }
            moved.student.iter_mut().for_each(|x| *x *= times);
            let mut got = moved.run(engine)?;
            got.gradient.iter_mut().for_each(|g| *g *= times);
            outcomes(&drawn, &got, &drawn.run(engine)?)
        },
    );
}

/// The order of the classes does not matter if the label moves with its class.
#[test]
fn an_order_of_the_classes_changes_nothing_but_the_order() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, drawn| {
            let want = drawn.run(engine)?;
            let n = drawn.classes;
            let mut random = Random::new(drawn.seed);
            // The source of each class.
            let mut from: Vec<usize> = (0..n).collect();
            for i in (1..n).rev() {
                from.swap(i, random.next() as usize % (i + 1));
            }
            let order = |values: &[f32]| -> Vec<f32> {
                let rows = values.chunks(n);
                rows.flat_map(|row| from.iter().map(|&i| row[i])).collect()
            };
            let mut moved = drawn.clone();
            moved.student = order(&drawn.student);
            moved.teacher = order(&drawn.teacher);
            for label in &mut moved.labels {
                if let Some(to) = from.iter().position(|&i| i as i32 == *label) {
                    *label = to as i32;
                }
            }
            let want = Outcome {
                gradient: order(&want.gradient),
                ..want
            };
            outcomes(&drawn, &moved.run(engine)?, &want)
        },
    );
}

/// Student and target both sum to 1, also with smoothing, so the gradient of a row sums to 0.
#[test]
fn a_row_of_the_gradient_sums_to_0() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, mut drawn| {
            // The gradient of the z-loss sums to that of the log-sum-exp.
            drawn.config.z_loss = 0.0;
            let got = drawn.run(engine)?;
            let weight = drawn.weight();
            for (row, gradient) in got.gradient.chunks(drawn.classes).enumerate() {
                if got.rows[row].flags & flags::NO_GRADIENT != 0 {
                    continue;
                }
                let sum: f64 = gradient.iter().map(|g| f64::from(*g)).sum();
                let size: f64 = gradient.iter().map(|g| f64::from(g.abs())).sum();
                let n = drawn.classes as f64;
                // Half a unit in the last place of each element.
                let rounding = match drawn.storage[2] {
                    Storage::F32 => 0.0,
                    Storage::F16 => size / 2048.0 + n / f64::from(1 << 25),
                    Storage::Bf16 => size / 256.0,
                };
                // `Tolerance` bounds elements. This bounds the sum of a row, whose errors mostly cancel.
                let tolerance = 4e-6 * weight + rounding;
                close(&format!("sum of gradient row {row}"), sum, 0.0, tolerance)?;
            }
            Ok(())
        },
    );
}

#[test]
fn the_selected_share_lies_between_its_inputs() {
    on_every_engine(
        |of| drawn(of, false),
        |engine, drawn| {
            let got = drawn.run(engine)?;
            let tstr = drawn.progress.tstr();
            for r in &got.rows {
                let kdr = match drawn.config.scope {
                    Scope::Row => r.kdr,
                    Scope::Batch => got.summary.kdr,
                    Scope::Given(kdr) => kdr,
                    other => return Err(format!("{other:?}")),
                };
                let (low, high) = (tstr.min(kdr), tstr.max(kdr));
                // The summary's mean is rounded independently of the row results. Both come from the same KDRs, so half the promise is enough.
                let slack = match drawn.config.scope {
                    Scope::Batch => Tolerance::F32.unit as f32 / 2.0,
                    _ => f32::MIN_POSITIVE,
                };
                let ok = match drawn.config.selection {
                    Selection::Min => (r.tssr - low).abs() <= slack,
                    Selection::Max => (r.tssr - high).abs() <= slack,
                    Selection::Mean => (low - slack..=high + slack).contains(&r.tssr),
                    Selection::Product => (0.0..=low + slack).contains(&r.tssr),
                    Selection::Tstr => r.tssr == tstr,
                    Selection::Kdr => (r.tssr - kdr).abs() <= slack,
                    Selection::Fixed(w) => r.tssr == w,
                    // From the teacher alone.
                    Selection::Margin(_) => (0.0..=1.0).contains(&r.tssr),
                    _ => false,
                };
                if !ok {
                    return Err(format!(
                        "tssr {:e} of tstr {tstr:e} and kdr {kdr:e}",
                        r.tssr
                    ));
                }
            }
            Ok(())
        },
    );
}

/// If every row appears twice, means stay the same, and sums and denominators double.
#[test]
fn rows_that_come_twice_keep_the_mean() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, drawn| {
            let once = drawn.run(engine)?;
            let twice = drawn.rows((0..drawn.rows).chain(0..drawn.rows));
            let got = twice.run(engine)?;
            let is_mean = drawn.config.reduction == Reduction::Mean;
            let (loss, gradient) = if is_mean { (1.0, 0.5) } else { (2.0, 1.0) };
            summaries(&drawn, &got, &once, loss)?;
            let rows: Vec<_> = once.rows.iter().chain(&once.rows).copied().collect();
            row_results(&drawn, &got.rows, &rows)?;
            let all = once.gradient.iter().chain(&once.gradient);
            let all: Vec<f32> = all.map(|g| g * gradient).collect();
            gradients(&twice, &got.gradient, &all, twice.weight())
        },
    );
}

/// Gradient accumulation: the parts of a batch, each with the whole batch's denominator, add up to the whole.
#[test]
fn parts_over_a_common_denominator_sum_to_the_whole() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, mut drawn| {
            if drawn.config.scope == Scope::Batch {
                drawn.config.scope = Scope::Row;
            }
            let ignored = drawn.config.ignore_index;
            let valid = drawn.labels.iter().filter(|l| **l != ignored).count();
            drawn.config.reduction = Reduction::Mean;
            let whole = drawn.run(engine)?;
            let mut over = drawn.clone();
            over.config.reduction = Reduction::SumOver(valid.max(1) as f32);
            let cut = drawn.seed as usize % (drawn.rows + 1);
            let first = over.rows(0..cut).run(engine)?;
            let second = over.rows(cut..drawn.rows).run(engine)?;
            let mut sum = Outcome {
                summary: whole.summary,
                rows: [first.rows, second.rows].concat(),
                gradient: [first.gradient, second.gradient].concat(),
                metrics: Vec::new(),
            };
            sum.summary.loss = first.summary.loss + second.summary.loss;
            outcomes(&drawn, &sum, &whole)
        },
    );
}

/// Ignored rows may hold NaN, infinities or any other value. All bits of the other rows and of the summary stay the same.
#[test]
fn ignored_rows_can_hold_anything() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, drawn| {
            let want = drawn.run(engine)?;
            let mut spoiled = drawn.clone();
            let mut random = Random::new(drawn.seed);
            let ignored = drawn.config.ignore_index;
            let is_ignored = |row: usize| drawn.labels[row] == ignored;
            for side in [&mut spoiled.student, &mut spoiled.teacher] {
                for (row, values) in side.chunks_mut(drawn.classes).enumerate() {
                    for x in values.iter_mut().filter(|_| is_ignored(row)) {
                        *x = match random.next() % 4 {
                            0 => f32::NAN,
                            1 => f32::INFINITY,
                            2 => f32::NEG_INFINITY,
                            _ => f32::from_bits(random.next()),
                        };
                    }
                }
            }
            let got = spoiled.run(engine)?;
            same_bits(&drawn, &got, &want)?;
            let n = drawn.classes;
            let zero = |row: usize| {
                got.gradient[row * n..(row + 1) * n]
                    .iter()
                    .all(|g| *g == 0.0)
            };
            match (0..drawn.rows).find(|row| is_ignored(*row) && !zero(*row)) {
                Some(row) => Err(format!("ignored row {row} has a gradient")),
                None => Ok(()),
            }
        },
    );
}

/// Values that are exact in a 16-bit type give the same results in 16-bit and in f32 storage.
#[test]
fn a_storage_type_changes_nothing_but_rounding() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, drawn| {
            let mut wide = drawn.clone();
            wide.storage = [Storage::F32; 3];
            // Values other than multiples of `STEP`, rounded to the storage type.
            let mut drawn = drawn;
            for (side, wide_side, storage) in [
                (&mut drawn.student, &mut wide.student, drawn.storage[0]),
                (&mut drawn.teacher, &mut wide.teacher, drawn.storage[1]),
            ] {
                for (x, wide) in side.iter_mut().zip(wide_side) {
                    *x *= 1.037;
                    *wide = cases::inputs::Stored::round(&[*x], storage).values().get(0);
                }
            }
            outcomes(&drawn, &drawn.run(engine)?, &wide.run(engine)?)
        },
    );
}

/// The elements between rows have no effect.
#[test]
fn strides_change_nothing() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, drawn| {
            let mut close = drawn.clone();
            close.gaps = [0; 2];
            outcomes(&drawn, &drawn.run(engine)?, &close.run(engine)?)
        },
    );
}

/// A class that both sides mask has the same effect as a missing class.
#[test]
fn masked_classes_might_as_well_be_missing() {
    let unmasked = |of| drawn(of, true).prop_filter("masked", |d| d.masked == Masked::None);
    on_every_engine(unmasked, |engine, mut drawn| {
        // Smoothing gives a share to every class, masked or not.
        if drawn.config.smoothed_classes == SmoothedClasses::All {
            drawn.config.label_smoothing = 0.0;
        }
        let want = drawn.run(engine)?;
        let (n, more) = (drawn.classes, 1 + drawn.seed as usize % 5);
        let widen = |values: &[f32], with: f32| -> Vec<f32> {
            let rows = values.chunks(n);
            rows.flat_map(|row| row.iter().copied().chain(vec![with; more]))
                .collect()
        };
        let mut wide = drawn.clone();
        wide.classes = n + more;
        wide.student = widen(&drawn.student, f32::NEG_INFINITY);
        wide.teacher = widen(&drawn.teacher, f32::NEG_INFINITY);
        // A row without a gradient has NaN for every class.
        let rows = want.gradient.chunks(n);
        let widened = rows.flat_map(|row| widen(row, if row[0].is_nan() { f32::NAN } else { 0.0 }));
        let want = Outcome {
            gradient: widened.collect(),
            ..want
        };
        outcomes(&wide, &wide.run(engine)?, &want)
    });
}
