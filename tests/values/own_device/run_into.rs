//! `run_into`: caller memory, every storage type, gaps between rows, accumulation, batches in several row ranges.

use wgpu_distill::half::{bf16, f16};
use wgpu_distill::{
    Batch, Config, Engine, Error, GradWrite, Gradient, GradientMut, Outputs, OutputsMut, Progress,
    RowResult, Scope, Storage, Summary, reference, wgpu,
};

use super::{App, TOLERANCE, check_summary, labels, noise};
use crate::cases::tolerance::gradient_weight;

const PROGRESS: Progress = Progress { step: 2, total: 3 };

/// Rows that a device with buffers of 64 KiB processes in four row ranges, the last one shorter.
const ROWS: usize = 701;

/// Memory in the given storage type with the given values.
fn stored(storage: Storage, values: impl Iterator<Item = f64>) -> Gradient {
    match storage {
        Storage::F32 => Gradient::F32(values.map(|x| x as f32).collect()),
        Storage::F16 => Gradient::F16(values.map(f16::from_f64).collect()),
        Storage::Bf16 => Gradient::Bf16(values.map(bf16::from_f64).collect()),
    }
}

/// Half a unit in the last place of a number near 1.
fn rounding(storage: Storage) -> f64 {
    match storage {
        Storage::F32 => 2f64.powi(-24),
        Storage::F16 => 2f64.powi(-11),
        Storage::Bf16 => 2f64.powi(-8),
    }
}

/// Three engines: a GPU with buffers for the whole batch, a GPU with small buffers, and the CPU path.
fn engines() -> (Vec<App>, Vec<Engine>) {
    let small = wgpu::Limits {
        max_buffer_size: 64 << 10,
        max_storage_buffer_binding_size: 32 << 10,
        ..wgpu::Limits::default()
    };
    let apps: Vec<App> = [wgpu::Limits::default(), small]
        .into_iter()
        .filter_map(App::new)
        .collect();
    let mut engines: Vec<_> = apps.iter().map(|app| Engine::Gpu(app.gpu())).collect();
    engines.push(Engine::cpu());
    (apps, engines)
}

/// The results of `run_into`. Its async form must give the same bits.
fn run_into(
    engine: &Engine,
    config: &Config,
    batch: &Batch<'_>,
    memory: &Gradient,
    stride: usize,
) -> (Summary, Vec<RowResult>, Gradient) {
    let classes = batch.classes();
    let mut twins = [false, true].map(|awaited| {
        let mut gradient = memory.clone();
        let mut rows = vec![RowResult::default(); batch.rows()];
        let outputs = OutputsMut {
            rows: Some(&mut rows),
            gradient: Some(GradientMut::new(&mut gradient, classes).with_row_stride(stride)),
            metrics: None,
        };
        let summary = match awaited {
            false => engine.run_into(config, PROGRESS, batch, outputs),
            true => pollster::block_on(engine.run_into_async(config, PROGRESS, batch, outputs)),
        };
        let summary = summary.unwrap_or_else(|e| panic!("{}: {e}", engine.describe()));
        (summary, rows, gradient)
    });
    assert_eq!(twins[0], twins[1], "{}", engine.describe());
    std::mem::replace(
        &mut twins[0],
        (Summary::default(), Vec::new(), Gradient::F32(Vec::new())),
    )
}

fn numbers(gradient: &Gradient) -> Vec<f64> {
    gradient
        .clone()
        .into_f32()
        .into_iter()
        .map(f64::from)
        .collect()
}

/// `Overwrite` writes the bits of `run` into the rows and leaves the gaps unchanged, with and without a gap after the last row.
#[test]
fn overwriting_leaves_what_run_returns() {
    let (apps, engines) = engines();
    for (classes, gap) in [(65, 0), (65, 3), (40, 8), (40, 1)] {
        let stride = classes + gap;
        let (student, teacher) = (noise(ROWS * classes, 61), noise(ROWS * classes, 62));
        let labels = labels(ROWS, classes);
        let batch = Batch::new(&student, &teacher, &labels, classes);
        for (engine, scope) in engines
            .iter()
            .flat_map(|e| [(e, Scope::Row), (e, Scope::Batch)])
        {
            let config = Config {
                scope,
                ..Config::default()
            };
            for storage in Storage::ALL {
                let about = format!(
                    "{}, {classes} + {gap} classes, {scope:?}, {storage:?}",
                    engine.describe()
                );
                let outputs = Outputs {
                    rows: true,
                    gradient: Some(storage),
                    metrics: false,
                };
                let want = engine.run(&config, PROGRESS, &batch, outputs);
                let want = want.unwrap_or_else(|e| panic!("{about}: {e}"));
                let want_gradient = numbers(want.gradient.as_ref().expect("asked for"));
                // The gap after the last row is optional.
                let behind = if storage == Storage::F16 { gap } else { 0 };
                let elements = (ROWS - 1) * stride + classes + behind;
                let memory = stored(storage, (0..elements).map(|_| 7.0));
                let (summary, rows, gradient) = run_into(engine, &config, &batch, &memory, stride);
                assert_eq!(summary, want.summary, "{about}");
                assert_eq!(rows, want.rows, "{about}");
                for (i, got) in numbers(&gradient).into_iter().enumerate() {
                    let (row, column) = (i / stride, i % stride);
                    let want = match column < classes {
                        true => want_gradient[row * classes + column],
                        false => 7.0,
                    };
                    assert_eq!(got, want, "{about}: row {row}, column {column}");
                }
            }
        }
    }
    apps.iter().for_each(App::is_silent);
}

/// Accumulation adds in f32 and rounds once. Onto the negated rounded gradient it gives the rounding error.
#[test]
fn accumulation_adds_in_f32_and_rounds_once() {
    let (apps, engines) = engines();
    for (classes, gap) in [(65, 2), (40, 0), (40, 8)] {
        let stride = classes + gap;
        let (student, teacher) = (noise(ROWS * classes, 63), noise(ROWS * classes, 64));
        let labels = labels(ROWS, classes);
        let batch = Batch::new(&student, &teacher, &labels, classes);
        for scope in [Scope::Row, Scope::Batch] {
            let mut config = Config {
                scope,
                grad_loss: 600.0,
                ..Config::default()
            };
            let want = reference::distill(&config, PROGRESS, &batch).expect("valid");
            config.grad_write = GradWrite::Accumulate;
            let w = gradient_weight(&config, want.summary.valid_rows);
            let rows = want.grad_student_logits.chunks(classes);
            let largest = |row: &[f64]| row.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            let largest: Vec<f64> = rows.map(largest).collect();
            for storage in Storage::ALL {
                let elements = (ROWS - 1) * stride + classes;
                let exact = |i: usize| {
                    let (row, column) = (i / stride, i % stride);
                    (column < classes).then(|| want.grad_student_logits[row * classes + column])
                };
                let memory = stored(
                    storage,
                    (0..elements).map(|i| match exact(i) {
                        Some(x) if i % 3 == 0 => -x,
                        Some(_) => (i % 7) as f64 * 0.125,
                        None => 7.0,
                    }),
                );
                let before = numbers(&memory);
                for engine in &engines {
                    let about = format!(
                        "{}, {classes} + {gap} classes, {scope:?}, {storage:?}",
                        engine.describe()
                    );
                    let (summary, _, gradient) = run_into(engine, &config, &batch, &memory, stride);
                    check_summary(&about, &want.summary, &summary);
                    for (i, got) in numbers(&gradient).into_iter().enumerate() {
                        let Some(exact) = exact(i) else {
                            assert_eq!(got, 7.0, "{about}: element {i} lies in a gap");
                            continue;
                        };
                        let sum = before[i] + exact;
                        let tolerance = TOLERANCE.gradient(largest[i / stride], w);
                        let tolerance = tolerance + rounding(storage) * sum.abs();
                        assert!(
                            (got - sum).abs() <= tolerance,
                            "{about}: element {i} is {got}, expected {sum} +- {tolerance:e}"
                        );
                    }
                }
            }
        }
    }
    apps.iter().for_each(App::is_silent);
}

/// Each output can be requested alone: rows, gradient or summary.
#[test]
fn each_output_can_be_left_out() {
    let (apps, engines) = engines();
    let classes = 9;
    let (student, teacher) = (noise(ROWS * classes, 65), noise(ROWS * classes, 66));
    let labels = labels(ROWS, classes);
    let batch = Batch::new(&student, &teacher, &labels, classes);
    let config = Config::default();
    for engine in &engines {
        let all = engine.run(&config, PROGRESS, &batch, Outputs::ALL);
        let all = all.expect("valid");
        let mut rows = vec![RowResult::default(); ROWS];
        let mut gradient = vec![f32::NAN; ROWS * classes];
        for outputs in [
            OutputsMut::default(),
            OutputsMut {
                rows: Some(&mut rows),
                gradient: None,
                metrics: None,
            },
            GradientMut::new(&mut gradient, classes).into(),
        ] {
            let summary = engine.run_into(&config, PROGRESS, &batch, outputs);
            assert_eq!(summary, Ok(all.summary), "{}", engine.describe());
        }
        assert_eq!(rows, all.rows);
        assert_eq!(Some(Gradient::F32(gradient)), all.gradient);
    }
    apps.iter().for_each(App::is_silent);
}

/// Memory of another shape is refused and stays unchanged. Accumulation into a new gradient is refused, too.
#[test]
fn memory_of_another_shape_is_refused() {
    let (apps, engines) = engines();
    let (student, teacher) = (noise(12, 67), noise(12, 68));
    let batch = Batch::new(&student, &teacher, &[0, 1, 2], 4);
    let config = Config::default();
    for engine in &engines {
        for (elements, classes, stride, rows) in [
            (11, 4, 4, 3),
            (13, 4, 4, 3),
            (12, 3, 4, 3),
            (12, 4, 3, 3),
            (12, 4, 4, 2),
            (12, 4, 4, 4),
        ] {
            let mut gradient = vec![7.0f32; elements];
            let mut results = vec![RowResult::default(); rows];
            let outputs = OutputsMut {
                rows: Some(&mut results),
                gradient: Some(GradientMut::new(&mut gradient, classes).with_row_stride(stride)),
                metrics: None,
            };
            let refused = engine.run_into(&config, PROGRESS, &batch, outputs);
            assert!(
                matches!(
                    refused,
                    Err(Error::SliceTooSmall { .. }
                        | Error::SliceTooLarge { .. }
                        | Error::GradientShape { .. }
                        | Error::RowStrideTooSmall { .. }
                        | Error::RowCount { .. })
                ),
                "{refused:?}"
            );
            assert_eq!(gradient, vec![7.0; elements]);
            assert_eq!(results, vec![RowResult::default(); rows]);
        }
        let config = Config {
            grad_write: GradWrite::Accumulate,
            ..config
        };
        let new = engine.run(&config, PROGRESS, &batch, Outputs::GRADIENT);
        assert!(matches!(new, Err(Error::Unsupported { .. })), "{new:?}");
    }
    apps.iter().for_each(App::is_silent);
}
