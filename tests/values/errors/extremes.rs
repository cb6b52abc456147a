//! The ends of the argument ranges: no rows, extreme values, random arguments. Each call succeeds or is refused; none panics.

use crate::cases::is_full;
use crate::steps::Steps;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed, TestRunner};
use wgpu_distill::gpu::GpuOutputs;
use wgpu_distill::{
    Batch, Config, Decision, Distillation, Engine, Error, Gradient, GradientMut, Logits, Outputs,
    Progress, Reduction, RowStats, Scope, Selection, Similarity, Storage, Summary,
    TemperatureScaling, reference, wgpu,
};

use super::arguments::{config, number, size, steps};
use super::buffers::{Bench, Right, at};
use super::{HALFWAY, MOST_CLASSES, SIX, config_error, engines, limit, refused};

/// Configurations that divide by the number of rows, or need all rows before the first result.
fn configs_that_count() -> Vec<Config> {
    let reductions = [
        Reduction::None,
        Reduction::Sum,
        Reduction::Mean,
        Reduction::SumOver(3.0),
    ];
    let scopes = [Scope::Row, Scope::Batch, Scope::Given(0.5)];
    let pairs = reductions
        .into_iter()
        .flat_map(|r| scopes.into_iter().map(move |s| (r, s)));
    pairs
        .map(|(reduction, scope)| Config {
            reduction,
            scope,
            ..Config::default()
        })
        .collect()
}

#[test]
fn no_rows_give_a_loss_of_0_and_nothing_else() {
    for engine in engines() {
        let name = engine.describe();
        for config in configs_that_count() {
            let none: [f32; 0] = [];
            {
                let batch = Batch::new(&none, &none, &[], 3);
                for outputs in [Outputs::SUMMARY, Outputs::ALL] {
                    let got = engine.run(&config, HALFWAY, &batch, outputs);
                    let got = got.unwrap_or_else(|e| panic!("{name}, {config:?}: {e}"));
                    assert_eq!(got.summary, Summary::default(), "{name}, {config:?}");
                    assert!(got.rows.is_empty(), "{name}");
                    assert_eq!(got.gradient.is_some(), outputs.gradient.is_some());
                    assert!(got.into_grad_student_logits().is_empty(), "{name}");
                }
                let into = GradientMut::new(&mut [0.0f32; 0], 3).into();
                let summary = engine.run_into(&config, HALFWAY, &batch, into);
                assert_eq!(summary, Ok(Summary::default()), "{name}, {config:?}");
                assert_eq!(engine.observe(&config, &batch), Ok(vec![]), "{name}");
                let apply = engine.apply(&config, &batch, &[]);
                assert_eq!(apply, Ok(vec![]), "{name}");
            }
            assert_eq!(
                engine.decide(&config, HALFWAY, &[], 3),
                Ok(vec![]),
                "{name}"
            );
        }
        for storage in Storage::ALL {
            let outputs = Outputs {
                rows: true,
                gradient: Some(storage),
                metrics: false,
            };
            let batch = Batch::new(&[0.0f32; 0], &[0.0f32; 0], &[], 6);
            let got = engine.run(&Config::default(), HALFWAY, &batch, outputs);
            let gradient = got.expect("no rows").gradient.expect("asked for");
            assert_eq!(gradient.storage(), storage);
        }
        assert_eq!(
            engine.softmax(&Logits::new(&[0.0f32; 0], 6), 0, 1.0),
            Ok(vec![]),
            "{name}"
        );
    }
    let batch = Batch::new(&[0.0f32; 0], &[0.0f32; 0], &[], 3);
    let got = reference::distill(&Config::default(), HALFWAY, &batch).expect("no rows");
    assert_eq!((got.summary.loss, got.summary.valid_rows), (0.0, 0));
    assert!(got.rows.is_empty() && got.grad_student_logits.is_empty());
}

/// Without rows the summary is written and the rest of its buffer is unchanged.
#[test]
fn no_rows_on_buffers_give_a_summary() {
    let Some(bench) = Bench::new(None) else {
        return;
    };
    const SUMMARY: usize = size_of::<Summary>();
    let right = Right::new(&bench);
    let device = bench.gpu.device();
    let usage =
        wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let summary = bench.buffer(SUMMARY as u64 + 16, usage);
    let read = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let back = bench.buffer(SUMMARY as u64 + 16, read);
    for config in configs_that_count() {
        bench
            .gpu
            .queue()
            .write_buffer(&summary, 0, &[0xa5; SUMMARY + 16]);
        let mut work = right.work();
        work.config = config;
        work.batch.rows = 0;
        work.outputs.summary = Some(at(&summary, 0));
        bench.encode(&work).expect("no rows");
        let mut encoder = bench.encoder();
        encoder.copy_buffer_to_buffer(&summary, 0, &back, 0, SUMMARY as u64 + 16);
        bench.gpu.queue().submit([encoder.finish()]);
        back.slice(..).map_async(wgpu::MapMode::Read, |_| {});
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let bytes = back.slice(..).get_mapped_range().unwrap().to_vec();
        back.unmap();
        let got: Summary = bytemuck::pod_read_unaligned(&bytes[..SUMMARY]);
        assert_eq!(got, Summary::default(), "{config:?}");
        assert_eq!(bytes[SUMMARY..], [0xa5; 16], "{config:?}");
    }
    // Without outputs the call succeeds.
    let mut work = right.work();
    work.batch.rows = 0;
    work.outputs = GpuOutputs::default();
    bench.encode(&work).expect("no rows and no outputs");
    bench.is_silent("no rows");
}

/// Functions that take their own list or number.
#[test]
fn bad_arguments_of_single_steps_are_refused() {
    let config = Config::default();
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    let rows = |got| Error::RowCount {
        name: "decisions",
        rows: 2,
        got,
    };
    let length = |got| match got {
        0..6 => Error::SliceTooSmall {
            name: "gradient",
            needed: 6,
            got,
        },
        _ => Error::SliceTooLarge {
            name: "gradient",
            rows: 2,
            row_stride: 3,
            limit: 6,
            got,
        },
    };
    for engine in engines() {
        let name = engine.describe();
        for n in [0, 1, 3] {
            let decisions = vec![Decision::default(); n];
            let apply = engine.apply(&config, &batch, &decisions);
            refused(&name, apply, &rows(n));
        }
        for n in [0, 5, 7] {
            let mut memory = vec![0.0; n];
            let into = GradientMut::new(&mut memory, 3).into();
            let run = engine.run_into(&config, HALFWAY, &batch, into);
            refused(&name, run, &length(n));
        }
        let stats = [RowStats::default(); 2];
        let decide = |classes| engine.decide(&config, HALFWAY, &stats, classes);
        refused(&name, decide(0), &Error::ZeroClasses { name: "row_stats" });
        let far = limit("the number of classes", u64::MAX, MOST_CLASSES);
        refused(&name, decide(usize::MAX), &far);
    }
}

/// A call of `softmax`: elements, classes, rows, temperature, and the error.
#[rustfmt::skip]
fn bad_softmax() -> Vec<(usize, usize, usize, f32, Error)> {
    let rows = |n: usize| limit("the number of rows", n as u64, i32::MAX as u64);
    let short = |needed, got| Error::SliceTooSmall { name: "logits", needed, got };
    vec![
        (6, 3, 2, 0.0, config_error("temperature", "0")),
        (6, 3, 2, f32::NAN, config_error("temperature", "NaN")),
        (6, 3, 2, -1.0, config_error("temperature", "-1")),
        (6, 0, 2, 1.0, Error::ZeroClasses { name: "logits" }),
        (6, 3, 3, 1.0, short(9, 6)),
        (6, 3, usize::MAX, 1.0, rows(usize::MAX)),
        (6, 3, 1 << 31, 1.0, rows(1 << 31)),
        (6, 1 << 28, i32::MAX as usize, 1.0, short((1 << 28) * i32::MAX as usize, 6)),
    ]
}

#[test]
fn bad_softmax_is_refused() {
    for (elements, classes, rows, temperature, want) in bad_softmax() {
        let logits = Logits::new(&SIX[..elements], classes);
        let about = format!("{rows} rows of {classes} at {temperature}");
        for engine in engines() {
            let got = engine.softmax(&logits, rows, temperature);
            refused(&about, got, &want);
        }
        refused(
            &about,
            reference::softmax(&logits, rows, temperature),
            &want,
        );
    }
}

#[test]
fn words_that_name_nothing_are_refused() {
    for text in ["", "Cosine", "cosine ", "kl"] {
        refused(
            text,
            text.parse::<Similarity>(),
            &config_error("similarity", text),
        );
    }
    for text in [
        "",
        "MAX",
        "fixed",
        "fixed:",
        "fixed:1.5",
        "fixed:-0",
        "fixed:nan",
        "fixed:inf",
        "margin",
        "margin:0.001",
        "margin:1.5",
    ] {
        if text == "fixed:-0" {
            assert_eq!(text.parse(), Ok(Selection::Fixed(-0.0)), "-0 is 0");
            continue;
        }
        refused(
            text,
            text.parse::<Selection>(),
            &config_error("selection", text),
        );
    }
    for similarity in Similarity::ALL {
        assert_eq!(similarity.to_string().parse(), Ok(similarity));
    }
    for selection in Selection::ALL {
        assert_eq!(selection.to_string().parse(), Ok(selection));
    }
}

/// Valid values at the ends of every range. A product of two ends may still be refused.
#[test]
fn allowed_extremes_are_answered() {
    let logits = [
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        f32::NEG_INFINITY,
        f32::NAN,
        0.0,
        f32::INFINITY,
        -0.0,
    ];
    let ends = [1e-30, 1.0, 1e30];
    let batch = Batch::new(&logits, &logits, &[0, 2, 1], 3);
    let progress = Progress::new(u64::MAX, u64::MAX);
    for engine in engines() {
        let (mut answered, mut refused) = (0, 0);
        for student_temperature in ends {
            for teacher_temperature in ends {
                for (grad_loss, denominator) in [(1e30, 1e30), (1e-30, 1e-30), (-0.0, 1.0)] {
                    let config = Config {
                        student_temperature,
                        teacher_temperature,
                        grad_loss,
                        reduction: Reduction::SumOver(denominator),
                        temperature_scaling: TemperatureScaling::Squared,
                        label_smoothing: 1.0 - f32::EPSILON / 2.0,
                        ..Config::default()
                    };
                    let got = match engine.run(&config, progress, &batch, Outputs::ALL) {
                        Ok(got) => got,
                        // The product of two ends is out of range.
                        Err(Error::InvalidConfig { field, .. }) if field.contains(" * ") => {
                            refused += 1;
                            continue;
                        }
                        Err(e) => panic!("{config:?}: {e}"),
                    };
                    answered += 1;
                    assert_eq!(got.rows.len(), 3);
                    // The second row has NaN and the third row has +inf.
                    assert_eq!(got.summary.non_finite_rows, 2, "{config:?}");
                }
            }
        }
        assert_eq!((answered, refused), (13, 14), "{}", engine.describe());
    }
}

/// Classes, row stride, true if the number of values fits the rows, and values.
type Side = (usize, usize, bool, Vec<f32>);

/// Half of the strides equal the number of classes.
fn stride((classes, row_stride, ..): &Side) -> usize {
    match row_stride.is_multiple_of(2) {
        true => *classes,
        false => *row_stride,
    }
}

fn values(side: &Side, rows: usize) -> Vec<f32> {
    let (classes, _, fits, values) = side;
    let needed = rows
        .saturating_sub(1)
        .saturating_mul(stride(side))
        .saturating_add(*classes);
    match (rows, needed) {
        (0, _) if *fits => Vec::new(),
        (_, 0..=1000) if *fits => values.iter().copied().cycle().take(needed).collect(),
        _ => values.clone(),
    }
}

fn logits<'a>(side: &Side, values: &'a [f32]) -> Logits<'a> {
    Logits::new(values, side.0).with_row_stride(stride(side))
}

/// Results that must be equal on two engines for any numbers, despite rounding: the counts and each row's flags.
fn counts(done: &Distillation) -> (Summary, Vec<u32>, usize) {
    let mut counts = done.summary;
    (counts.loss, counts.kdr, counts.tssr) = (0.0, 0.0, 0.0);
    let flags = done.rows.iter().map(|row| row.flags).collect();
    let gradient = done.gradient.as_ref().map_or(0, |g| match g {
        Gradient::F32(v) => v.len(),
        _ => usize::MAX,
    });
    (counts, flags, gradient)
}

/// 4,000 lists of arguments. The CPU path and the GPU give the same errors and results, and neither panics.
///
/// Inputs that once failed are in `tests/values/errors/regressions.txt` and run first.
#[test]
fn anything_is_answered_or_refused_alike() {
    let gpu = super::gpu().map(Engine::Gpu);
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/values/errors/regressions.txt"
    );
    let cases = if is_full() { 4000 } else { 1000 };
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(path))),
        // A fixed seed, so that a failure repeats.
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    });
    let sides = [(); 2].map(|()| {
        let fits = prop::bool::weighted(0.9);
        (size(), size(), fits, prop::collection::vec(number(), 1..40))
    });
    let labels = prop::collection::vec(prop_oneof![9 => 0i32..2, 1 => any::<i32>()], 0..4);
    let progress = [steps(), steps()];
    let (answered, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let arguments = (config(), sides, labels, progress);
    let done = runner.run(&arguments, |(config, sides, labels, [step, total])| {
        let [student, teacher] = &sides;
        let lists = [student, teacher].map(|side| values(side, labels.len()));
        let batch = Batch {
            student_logits: logits(student, &lists[0]),
            teacher_logits: logits(teacher, &lists[1]),
            labels: &labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let progress = Progress { step, total };
        let run = |engine: &Engine| engine.run(&config, progress, &batch, Outputs::ALL);
        let cpu = run(&Engine::cpu());
        let truth = reference::distill(&config, progress, &batch);
        match &cpu {
            Ok(_) => {
                answered.set(answered.get() + 1);
                prop_assert!(truth.is_ok());
            }
            Err(error) => {
                refused.set(refused.get() + 1);
                // The reference accepts these.
                let answers = matches!(
                    error,
                    Error::LabelOutOfRange { .. }
                        | Error::Unsupported { .. }
                        | Error::ZeroDenominator { .. }
                );
                prop_assert!(answers || truth.is_err());
            }
        }
        if let Some(gpu) = &gpu {
            let theirs = run(gpu);
            let [ours, theirs] = [&cpu, &theirs].map(|done| done.as_ref().map(counts));
            prop_assert_eq!(ours, theirs);
        }
        Ok(())
    });
    if let Err(why) = done {
        panic!("{why}");
    }
    let (answered, refused) = (answered.get(), refused.get());
    assert!(
        answered.min(refused) > cases / 40,
        "{answered} answered, {refused} refused"
    );
}
