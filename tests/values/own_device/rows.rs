//! Weights of rows, and rows that are left out: batches in several row ranges, single steps, equal weights, the weighted mean.

use wgpu_distill::{
    Batch, ClassWeighting, Config, Divergence, Engine, NonFinite, Outputs, OutputsMut, Progress,
    Reduction, RowMetrics, Scope, Selection, flags, reference, wgpu,
};

use super::{App, ROUNDING, check_rows, check_summary, close, labels, noise};
use crate::steps::Steps;

const PROGRESS: Progress = Progress { step: 2, total: 3 };
/// Rows that a device with buffers of 64 KiB processes in several row ranges.
const ROWS: usize = 701;
const CLASSES: usize = 33;

/// Three engines: a GPU with buffers for the whole batch, a GPU with small buffers, and the CPU path.
fn engines() -> (Vec<App>, Vec<Engine>) {
    let small = wgpu::Limits {
        max_buffer_size: 64 << 10,
        max_storage_buffer_binding_size: 32 << 10,
        ..wgpu::Limits::default()
    };
    let limits = [wgpu::Limits::default(), small];
    let apps: Vec<App> = limits.into_iter().filter_map(App::new).collect();
    let mut engines: Vec<_> = apps.iter().map(|app| Engine::Gpu(app.gpu())).collect();
    engines.push(Engine::cpu());
    (apps, engines)
}

/// Inputs with NaN in every 50th row of the student and every 70th of the teacher, and a class that the teacher masks in every 20th.
struct Inputs {
    student: Vec<f32>,
    teacher: Vec<f32>,
    labels: Vec<i32>,
    weights: Vec<f32>,
}

impl Inputs {
    fn new(broken: bool) -> Self {
        let (mut student, mut teacher) = (noise(ROWS * CLASSES, 31), noise(ROWS * CLASSES, 32));
        for row in (0..ROWS).filter(|_| broken) {
            let first = row * CLASSES;
            if row % 50 == 7 {
                student[first + 5] = f32::NAN;
            }
            if row % 70 == 9 {
                teacher[first + 1] = f32::NAN;
            }
            if row % 20 == 1 {
                teacher[first + 2] = f32::NEG_INFINITY;
            }
        }
        let weight = |row: usize| [1.0, -0.5, 0.0, 1.5][row % 4];
        Self {
            student,
            teacher,
            labels: labels(ROWS, CLASSES),
            weights: (0..ROWS).map(weight).collect(),
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch::new(&self.student, &self.teacher, &self.labels, CLASSES)
    }
}

#[test]
fn row_ranges_keep_weights_and_leave_rows_out() {
    let inputs = Inputs::new(true);
    let batch = inputs.batch().with_row_weights(&inputs.weights);
    let (apps, engines) = engines();
    for scope in [Scope::Row, Scope::Batch] {
        let config = Config {
            scope,
            divergence: Divergence::ReverseKl,
            selection: Selection::Mean,
            non_finite: NonFinite::Skip,
            ..Config::default()
        };
        let want = reference::distill(&config, PROGRESS, &batch).expect("valid");
        assert!(want.summary.loss.is_finite() && want.summary.non_finite_rows > 40);
        for engine in &engines {
            let about = format!("{scope:?} on {}", engine.describe());
            let got = engine.run(&config, PROGRESS, &batch, Outputs::ALL);
            let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
            check_summary(&about, &want.summary, &got.summary);
            let left_out = got.summary.non_finite_rows;
            assert_eq!(left_out, want.summary.non_finite_rows, "{about}");
            let skipped = got.rows.iter().filter(|r| r.is_skipped()).count();
            assert_eq!(skipped, left_out as usize, "{about}");
            let rows = got.rows.clone();
            let gradient = got.into_grad_student_logits();
            // The terms of the reverse divergence are as large as the divergence, up to 160 nats here.
            let w = 160.0 * 1.5 / f64::from(want.summary.valid_rows);
            check_rows(&about, &want, &rows, &gradient, 1.0, ROUNDING * w);
        }
    }
    apps.iter().for_each(App::is_silent);
}

/// Metrics of rows and their means, with and without the rows' results, in new memory and in the caller's.
#[test]
fn row_ranges_keep_metrics() {
    let inputs = Inputs::new(true);
    let batch = inputs.batch().with_row_weights(&inputs.weights);
    let config = Config {
        non_finite: NonFinite::Skip,
        ..Config::default()
    };
    let want = reference::distill(&config, PROGRESS, &batch).expect("valid");
    let means = reference::mean_metrics(&want.rows, &want.metrics);
    let (apps, engines) = engines();
    for engine in &engines {
        let about = engine.describe();
        for rows in [false, true] {
            let outputs = Outputs {
                rows,
                metrics: true,
                gradient: None,
            };
            let got = engine.run(&config, PROGRESS, &batch, outputs);
            let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
            assert_eq!(got.rows.len(), if rows { ROWS } else { 0 }, "{about}");
            let mut memory = vec![RowMetrics::default(); ROWS];
            let outputs = OutputsMut {
                metrics: Some(&mut memory),
                ..OutputsMut::default()
            };
            let summary = engine.run_into(&config, PROGRESS, &batch, outputs);
            assert_eq!(summary, Ok(got.summary), "{about}");
            assert_eq!(memory, got.metrics, "{about}");
            let pairs = got.metrics.iter().zip(&want.metrics);
            for (got, want) in pairs.chain([(&got.summary.metrics, &means)]) {
                for (got, want) in [
                    (got.forward_kl, want.forward_kl),
                    (got.student_entropy, want.student_entropy),
                    (got.hard, want.hard),
                    (got.teacher_lse, want.teacher_lse),
                    (got.agreement, want.agreement),
                    (got.teacher_accuracy, want.teacher_accuracy),
                ] {
                    close(&about, got, want, 1e-5 * want.abs() + 4e-6);
                }
            }
        }
    }
    apps.iter().for_each(App::is_silent);
}

/// A mean over more rows than a workgroup counts by itself: the counts stand behind partial summaries with metrics.
#[test]
fn many_rows_keep_metrics() {
    let (rows, classes) = (9001, 3);
    let (student, teacher) = (noise(rows * classes, 33), noise(rows * classes, 34));
    let mut labels = labels(rows, classes);
    labels[..40].fill(-100);
    let batch = Batch::new(&student, &teacher, &labels, classes);
    let config = Config::default();
    let outputs = Outputs {
        metrics: true,
        ..Outputs::ALL
    };
    let want = reference::distill(&config, PROGRESS, &batch).expect("valid");
    let means = reference::mean_metrics(&want.rows, &want.metrics);
    let (apps, engines) = engines();
    for engine in &engines {
        let about = engine.describe();
        let got = engine.run(&config, PROGRESS, &batch, outputs);
        let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
        check_summary(&about, &want.summary, &got.summary);
        let hard = got.summary.metrics.hard;
        close(&about, hard, means.hard, 1e-5 * means.hard + 4e-6);
        let rows = got.rows.clone();
        let gradient = got.into_grad_student_logits();
        let w = 1.0 / f64::from(want.summary.valid_rows);
        check_rows(&about, &want, &rows, &gradient, 1.0, ROUNDING * w);
    }
    apps.iter().for_each(App::is_silent);
}

/// `RowStats` carries the weight from `observe` to `decide`.
#[test]
fn single_steps_keep_weights() {
    let inputs = Inputs::new(true);
    let batch = inputs.batch().with_row_weights(&inputs.weights);
    let config = Config {
        non_finite: NonFinite::Skip,
        ..Config::default()
    };
    let (_apps, engines) = engines();
    for engine in engines {
        let about = engine.describe();
        let whole = engine.run(&config, PROGRESS, &batch, Outputs::ALL);
        let whole = whole.expect("valid");
        let stats = engine.observe(&config, &batch).expect("valid");
        let decisions = engine.decide(&config, PROGRESS, &stats, CLASSES);
        let decisions = decisions.expect("valid");
        for (decision, row) in decisions.iter().zip(&whole.rows) {
            let (got, want) = (decision.result.loss, row.loss);
            close(
                &about,
                got,
                f64::from(want),
                2e-6 * (1.0 + f64::from(want.abs())),
            );
            assert_eq!(
                decision.result.flags & flags::SKIPPED,
                row.flags & flags::SKIPPED
            );
        }
        let gradient = engine.apply(&config, &batch, &decisions).expect("valid");
        let whole = whole.into_grad_student_logits();
        for (got, want) in gradient.iter().zip(whole) {
            close(&about, *got, f64::from(want), 1e-8);
        }
    }
}

#[test]
fn weights_of_one_change_nothing() {
    let inputs = Inputs::new(false);
    let ones = vec![1.0; ROWS];
    let (_apps, engines) = engines();
    for engine in engines {
        let run = |batch: &Batch<'_>| {
            let done = engine.run(&Config::default(), PROGRESS, batch, Outputs::ALL);
            done.unwrap_or_else(|e| panic!("{}: {e}", engine.describe()))
        };
        let plain = run(&inputs.batch());
        let weighted = run(&inputs.batch().with_row_weights(&ones));
        assert_eq!(plain, weighted, "{}", engine.describe());
    }
}

/// Weights of classes that are all equal weight the parts that they multiply: 1 changes nothing but the rounding.
#[test]
fn equal_class_weights_weight_the_parts() {
    use ClassWeighting::{Both, Hard, Soft};
    let inputs = Inputs::new(false);
    let (_apps, engines) = engines();
    for (class_weighting, weight, label_smoothing) in [
        (Hard, 1.0, 0.0),
        (Both, 1.0, 0.125),
        (Hard, 0.5, 0.125),
        (Soft, 2.0, 0.0),
        (Both, 4.0, 0.25),
    ] {
        let weights = [weight; CLASSES];
        let config = Config {
            class_weighting,
            label_smoothing,
            selection: Selection::Mean,
            ..Config::default()
        };
        let equal = Config {
            hard_weight: if class_weighting == Soft { 1.0 } else { weight },
            soft_weight: if class_weighting == Hard { 1.0 } else { weight },
            ..config
        };
        let want = reference::distill(&equal, PROGRESS, &inputs.batch()).expect("valid");
        let batch = inputs.batch().with_class_weights(&weights);
        for engine in &engines {
            let about = format!("{class_weighting:?} {weight} on {}", engine.describe());
            let got = engine.run(&config, PROGRESS, &batch, Outputs::ALL);
            let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
            check_summary(&about, &want.summary, &got.summary);
            let rows = got.rows.clone();
            let gradient = got.into_grad_student_logits();
            let w = f64::from(weight.max(1.0)) / f64::from(want.summary.valid_rows);
            check_rows(&about, &want, &rows, &gradient, 1.0, ROUNDING * w);
        }
    }
}

/// A class of weight 0 takes no part, also where the student masks it: the label's, and one of the teacher's.
#[test]
fn masked_classes_of_weight_0_leave_the_loss_finite() {
    let masked = f32::NEG_INFINITY;
    let student = [masked, 0.5, 1.0, -0.5, masked, 2.0, 0.25, 1.5];
    let teacher = [1.0, 0.25, 2.0, -1.0, 3.0, 0.5, 0.0, 1.0];
    let labels = [0, 2];
    let batch = Batch::new(&student, &teacher, &labels, 4);
    let (_apps, engines) = engines();
    for label_smoothing in [0.0, 0.25] {
        for weights in [
            [0.0, 1.0, 2.0, 0.5],
            [-0.0, 0.0, 1.0, 3.0],
            [1e-6, 1.0, 1.0, 1.0],
            [0.0; 4],
        ] {
            let batch = batch.with_class_weights(&weights);
            let config = Config {
                class_weighting: ClassWeighting::Both,
                selection: Selection::Fixed(0.5),
                reduction: Reduction::None,
                label_smoothing,
                ..Config::default()
            };
            let want = reference::distill(&config, Progress::NONE, &batch).expect("valid");
            let infinite = weights[0] > 0.0;
            assert_eq!(want.rows[0].loss.is_infinite(), infinite, "{weights:?}");
            for engine in &engines {
                let about = format!("{weights:?}, {label_smoothing} on {}", engine.describe());
                let got = engine.run(&config, Progress::NONE, &batch, Outputs::ALL);
                let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
                check_rows(
                    &about,
                    &want,
                    &got.rows.clone(),
                    &got.into_grad_student_logits(),
                    1.0,
                    1e-6,
                );
            }
        }
    }
}

/// Row ranges of a batch have the same weights of classes.
#[test]
fn row_ranges_keep_class_weights() {
    let inputs = Inputs::new(true);
    let weights: [f32; CLASSES] = std::array::from_fn(|class| [0.5, 2.0, 0.0, 1.25][class % 4]);
    let batch = inputs.batch().with_row_weights(&inputs.weights);
    let batch = batch.with_class_weights(&weights);
    let (apps, engines) = engines();
    for scope in [Scope::Row, Scope::Batch] {
        let config = Config {
            scope,
            class_weighting: ClassWeighting::Both,
            label_smoothing: 0.125,
            non_finite: NonFinite::Skip,
            ..Config::default()
        };
        let want = reference::distill(&config, PROGRESS, &batch).expect("valid");
        for engine in &engines {
            let about = format!("{scope:?} on {}", engine.describe());
            let got = engine.run(&config, PROGRESS, &batch, Outputs::ALL);
            let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
            check_summary(&about, &want.summary, &got.summary);
            let rows = got.rows.clone();
            let w = 3.0 / f64::from(want.summary.valid_rows);
            check_rows(
                &about,
                &want,
                &rows,
                &got.into_grad_student_logits(),
                1.0,
                ROUNDING * w,
            );
        }
    }
    apps.iter().for_each(App::is_silent);
}

/// `SumOver` with the sum of the weights is the weighted mean; a mean divides by the rows.
#[test]
fn the_weighted_mean_divides_by_the_sum_of_weights() {
    let inputs = Inputs::new(false);
    let weights: Vec<f32> = (0..ROWS).map(|row| [0.5, 2.0, 0.25][row % 3]).collect();
    let counted = |row: &usize| inputs.labels[*row] >= 0;
    let rows = (0..ROWS).filter(counted);
    let total: f64 = rows.clone().map(|row| f64::from(weights[row])).sum();
    let (_apps, engines) = engines();
    for engine in engines {
        let about = engine.describe();
        let run = |reduction, batch: &Batch<'_>| {
            let config = Config {
                reduction,
                ..Config::default()
            };
            let done = engine.run(&config, PROGRESS, batch, Outputs::ALL);
            done.unwrap_or_else(|e| panic!("{about}: {e}"))
        };
        let plain = run(Reduction::Mean, &inputs.batch());
        let each = |row: usize| f64::from(weights[row]) * f64::from(plain.rows[row].loss);
        let sum: f64 = rows.clone().map(each).sum();
        let weighted = inputs.batch().with_row_weights(&weights);
        let mean = run(Reduction::Mean, &weighted).summary.loss;
        let count = f64::from(plain.summary.valid_rows);
        close(&about, mean, sum / count, 1e-5 * sum / count);
        let by_weight = run(Reduction::SumOver(total as f32), &weighted);
        close(
            &about,
            by_weight.summary.loss,
            sum / total,
            1e-5 * sum / total,
        );
    }
}
