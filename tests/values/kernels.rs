//! Each kernel alone, through the host API, against its counterpart in the reference.
//!
//! `valid_rows` and `summary` have no call of their own. The summary of every result tests them.

use crate::{adapter, buffers, cases, report};
mod plain_host;

use crate::cases::Tolerance;
use crate::cases::inputs::{self, Kind, Stored};
use crate::cases::tolerance::assert_close;
use crate::steps::Steps;
use wgpu_distill::{
    Batch, Config, Engine, Logits, Scope, Similarity, Storage, Values, flags, reference, wgpu,
};

/// Every available engine with its name for failures.
fn engines() -> Vec<Engine> {
    let mut list = vec![Engine::cpu()];
    if let Some(gpu) = buffers::gpu() {
        list.extend(adapter::without_subgroups().map(Engine::Gpu));
        let default = adapter::with_default_limits(wgpu::Features::empty());
        list.extend(default.map(Engine::Gpu));
        list.push(Engine::Gpu(gpu));
    }
    list
}

/// All of the table on the CPU path, and a part of it on the GPU; on its other configurations only at full depth, since compiling takes long.
fn tables() -> Vec<(Engine, Vec<cases::Case>)> {
    let mut list = vec![(Engine::cpu(), cases::all())];
    let gpus = match cases::is_full() {
        true => engines().split_off(1),
        false => buffers::gpu().map(Engine::Gpu).into_iter().collect(),
    };
    list.extend(gpus.into_iter().map(|gpu| (gpu, cases::share(3, 8))));
    list
}

const FLAGS: u32 = flags::IGNORED | flags::INVALID_LABEL | flags::NON_FINITE;

#[test]
fn softmax() {
    let kinds = [
        Kind::Normal,
        Kind::Peaked,
        Kind::Offset(1e4),
        Kind::MaskedBoth,
        Kind::Broken,
        Kind::Flat,
        Kind::Huge,
    ];
    let mut cases = 0;
    for engine in engines() {
        for kind in kinds {
            for (classes, stride) in [(1, 1), (10, 10), (100, 100), (257, 260), (1000, 1003)] {
                for storage in Storage::ALL {
                    for temperature in [1.0, 2.5] {
                        if storage == Storage::F16 && kind == Kind::Huge {
                            continue;
                        }
                        let rows = 6;
                        let (values, _) = inputs::logits(kind, rows, classes, classes, 3);
                        let stored =
                            Stored::round(&inputs::spread(&values, classes, stride, 0), storage);
                        let logits = Logits::new(stored.values(), classes).with_row_stride(stride);
                        let want = reference::softmax(&logits, rows, temperature).expect("valid");
                        let got = engine.softmax(&logits, rows, temperature).expect("valid");
                        let about = format!(
                            "{}: {kind:?} {classes} {storage:?} {temperature}",
                            engine.describe()
                        );
                        assert_eq!(got.len(), want.len(), "{about}");
                        for (g, w) in got.iter().zip(&want) {
                            let tolerance = Tolerance::F32.probability(*w);
                            assert_close(&about, f64::from(*g), *w, tolerance);
                        }
                        cases += 1;
                    }
                }
            }
        }
    }
    report::ran(&format!("kernels: softmax, {cases} cases"));
}

/// Softmax has no loss, so the range of the loss's factors does not narrow its temperatures.
#[test]
fn softmax_at_the_ends_of_the_temperatures() {
    let (rows, classes) = (100, 3);
    let (values, _) = inputs::logits(Kind::Normal, rows, classes, classes, 11);
    let logits = Logits::new(&values[..], classes);
    for engine in engines() {
        for temperature in [1e-30, 1e30] {
            let want = reference::softmax(&logits, rows, temperature).expect("valid");
            let got = engine.softmax(&logits, rows, temperature).expect("valid");
            assert_eq!(got.len(), want.len());
            for (g, w) in got.iter().zip(&want) {
                let about = format!("{}: {temperature:e}", engine.describe());
                assert_close(&about, f64::from(*g), *w, 1e-6);
            }
        }
    }
}

/// A lane rescales its sum a hundred times. The error of the factors must not accumulate.
#[test]
fn softmax_of_a_long_row() {
    let classes = 151_936;
    for engine in engines() {
        for logit in [0.0, -17.0] {
            let got = engine
                .softmax(&Logits::new(&vec![logit; classes][..], classes), 1, 1.0)
                .expect("valid");
            let want = 1.0 / classes as f64;
            assert_eq!(got.len(), classes);
            // All exponents are 0 and exact, so this bound is below `Tolerance::probability`.
            for g in got {
                assert_close(&engine.describe(), f64::from(g), want, 5e-6 * want);
            }
        }
    }
}

/// As many lanes per row as a default workgroup allows. The host never chooses such a tiling for a software adapter.
///
/// Several subgroups share a row, and each lane merges the results of several subgroups.
#[test]
fn softmax_with_several_subgroups_a_row() {
    let what = "softmax with several subgroups a row";
    let Some(gpu) = adapter::with_subgroups(what) else {
        return;
    };
    for (lanes, kind) in [(128, Kind::Normal), (256, Kind::MaskedBoth)] {
        let (rows, classes) = (5, 1503);
        let (values, _) = inputs::logits(kind, rows, classes, classes, 6);
        let logits = Logits::new(&values[..], classes);
        let want = reference::softmax(&logits, rows, 1.5).expect("valid");
        let got = plain_host::softmax(&gpu, lanes, &values, classes, 1.5);
        assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(&want) {
            let tolerance = Tolerance::F32.probability(*w);
            assert_close(&format!("{lanes} lanes"), f64::from(*g), *w, tolerance);
        }
    }
}

#[test]
fn observe() {
    let mut count = 0;
    for (engine, table) in tables() {
        for case in table.into_iter().filter(cases::Case::runs_in_steps) {
            let host = case.host();
            let want = reference::observe(&case.config, &host.batch()).expect("valid");
            let got = engine.observe(&case.config, &host.batch()).expect("valid");
            let tolerance = match case.kind {
                Kind::Peaked => Tolerance::PEAKED,
                _ => Tolerance::F32,
            };
            for (row, (g, w)) in got.iter().zip(&want).enumerate() {
                let about =
                    |what: &str| format!("{}: {} row {row} {what}", engine.describe(), case.name);
                assert_eq!(g.flags & FLAGS, w.flags, "{}", about("flags"));
                assert_close(&about("kdr"), f64::from(g.kdr), w.kdr, tolerance.unit);
                if w.flags & (flags::IGNORED | flags::NON_FINITE) != 0 {
                    continue;
                }
                let close = |what: &str, g: f64, w: f64| {
                    assert_close(&about(what), g, w, tolerance.statistic(w));
                };
                close("student_lse", g.student_lse(&case.config), w.student_lse);
                close("teacher_lse", g.teacher_lse(&case.config), w.teacher_lse);
                close("kl", g.kl(), w.kl);
                if w.kl.is_finite() {
                    close("teacher_entropy", g.teacher_entropy(), w.teacher_entropy);
                }
            }
            count += 1;
        }
    }
    report::ran(&format!("kernels: observe, {count} cases"));
}

/// Columns `start..start + classes` of the batch.
fn columns<'a>(batch: &Batch<'a>, start: usize, classes: usize) -> Batch<'a> {
    let cut = |logits: &Logits<'a>| {
        let Values::F32(values) = logits.values else {
            panic!("the test's logits are f32")
        };
        Logits::new(&values[start..], classes).with_row_stride(logits.row_stride)
    };
    Batch {
        student_logits: cut(&batch.student_logits),
        teacher_logits: cut(&batch.teacher_logits),
        ..*batch
    }
}

/// The reference's counterparts of `merge_row_stats` and `second_sweep`. `tests/values/tilings.rs` runs the kernels.
#[test]
fn merge_row_stats_and_second_sweep() {
    let (rows, classes) = (5, 300);
    let (student, teacher) = inputs::logits(Kind::Normal, rows, classes, classes, 4);
    let labels = [3; 5];
    let batch = Batch::new(&student, &teacher, &labels, classes);
    for similarity in Similarity::ALL {
        let config = Config {
            similarity,
            student_temperature: 1.5,
            ..Config::default()
        };
        let whole = reference::observe(&config, &batch).expect("valid");
        let segments = [(0, 7), (7, 200), (207, 93)].map(|(start, n)| {
            reference::observe(&config, &columns(&batch, start, n)).expect("valid")
        });
        let p = reference::softmax(&batch.student_logits, rows, 1.5).expect("valid");
        let q = reference::softmax(&batch.teacher_logits, rows, 1.0).expect("valid");
        for (row, want) in whole.iter().enumerate() {
            let parts: Vec<_> = segments
                .iter()
                .map(|segment| segment[row].clone())
                .collect();
            let got = reference::merge_row_stats(&parts);
            // Both sides are f64, so the bounds are far below those of `Tolerance`.
            assert_close("student_lse", got.student_lse, want.student_lse, 1e-10);
            assert_close("teacher_lse", got.teacher_lse, want.teacher_lse, 1e-10);
            assert_close("kl", got.kl, want.kl, 1e-10 * want.kl + 1e-11);
            let entropy = want.teacher_entropy;
            assert_close("teacher_entropy", got.teacher_entropy, entropy, 1e-10);
            let log = |x: &[f64]| -> Vec<f64> {
                let row = &x[row * classes..(row + 1) * classes];
                row.iter().map(|x| x.ln()).collect()
            };
            let kdr = reference::second_sweep(similarity, &log(&p), &log(&q));
            assert_close("kdr", kdr, want.kdr, 1e-10);
        }
    }
}

/// Observe, decide and apply in sequence equal the whole method.
#[test]
fn decide_and_apply() {
    let steps = |case: &cases::Case| case.runs_in_steps();
    let lists = |case: &cases::Case| case.runs_list_in_steps();
    let cpu = (
        Engine::cpu(),
        cases::all().into_iter().filter(lists).collect(),
    );
    let of_steps = |(engine, table): (Engine, Vec<cases::Case>)| {
        (engine, table.into_iter().filter(steps).collect())
    };
    let count = in_steps(tables().into_iter().map(of_steps).chain([cpu]));
    report::ran(&format!("kernels: decide and apply, {count} cases"));
}

/// The same for lists on the GPU. `./check` leaves it to the second driver.
#[test]
fn further_cases_of_lists_in_single_steps() {
    let Some(gpu) = buffers::gpu() else { return };
    let lists = |case: &cases::Case| case.runs_list_in_steps();
    let table: Vec<_> = cases::for_drivers().into_iter().filter(lists).collect();
    assert!(table.len() > 5, "only {} cases", table.len());
    let count = in_steps([(Engine::Gpu(gpu), table)]);
    report::ran(&format!("kernels: lists in single steps, {count} cases"));
}

/// Fails unless the steps equal the whole method. Returns the number of cases.
fn in_steps(tables: impl IntoIterator<Item = (Engine, Vec<cases::Case>)>) -> usize {
    let mut count = 0;
    for (engine, table) in tables {
        for case in table {
            let host = case.host();
            let batch = host.batch();
            let want = case.reference();
            let stats = engine.observe(&case.config, &batch).expect("valid");
            let decisions = engine
                .decide(&case.config, case.progress, &stats, case.classes)
                .expect("valid");
            let gradient = engine
                .apply(&case.config, &batch, &decisions)
                .expect("valid");
            let rows = decisions.iter().map(|d| d.result).collect();
            // The steps give no summary, so the reference's is used.
            let w = &want.summary;
            let mut summary = wgpu_distill::Summary::default();
            (summary.loss, summary.kdr, summary.tssr) =
                (w.loss as f32, w.kdr as f32, w.tssr as f32);
            summary.valid_rows = w.valid_rows;
            summary.ignored_rows = w.ignored_rows;
            summary.invalid_labels = w.invalid_labels;
            summary.non_finite_rows = w.non_finite_rows;
            let outcome = cases::compare::Outcome {
                summary,
                rows,
                gradient,
                metrics: Vec::new(),
            };
            let case = cases::Case {
                storage: [case.storage[0], case.storage[1], Storage::F32],
                ..case
            };
            if let Err(why) = cases::compare::check(&case, &want, &outcome) {
                panic!("{}: {} ({}): {why}", engine.describe(), case.name, case.why);
            }
            count += 1;
        }
    }
    count
}

/// A caller can set each row's share of the label through `kdr`.
#[test]
fn decide_with_an_own_controller() {
    let shares = [0.0, 0.2, 0.7, 1.0];
    let (student, teacher) = inputs::logits(Kind::Normal, 4, 20, 20, 9);
    let labels = [1, 5, 19, 0];
    let batch = Batch::new(&student, &teacher, &labels, 20);
    let config = Config {
        selection: wgpu_distill::Selection::Kdr,
        scope: Scope::Row,
        ..Default::default()
    };
    for engine in engines() {
        let mut stats = engine.observe(&config, &batch).expect("valid");
        for (s, share) in stats.iter_mut().zip(shares) {
            s.kdr = share;
        }
        let progress = wgpu_distill::Progress::new(0, 1);
        let decisions = engine.decide(&config, progress, &stats, 20).expect("valid");
        for (row, (d, share)) in decisions.iter().zip(shares).enumerate() {
            let loss = reference::row_loss(&config, &batch, row, f64::from(share));
            assert_eq!(d.result.tssr, share);
            assert_close(
                "loss",
                f64::from(d.result.loss),
                loss,
                Tolerance::F32.loss(loss, 1.0),
            );
        }
    }
}
