//! Soft labels: batches in several row ranges, single steps, one-hot rows, a share of the teacher.

use wgpu_distill::{
    Batch, Config, Divergence, Engine, HardTemperature, Logits, Outputs, Progress, Scope,
    Selection, half, reference, wgpu,
};

use super::{App, ROUNDING, check_rows, check_summary, close, labels, noise};
use crate::steps::Steps;

const PROGRESS: Progress = Progress { step: 2, total: 3 };
/// Rows that a device with buffers of 64 KiB processes in several row ranges: those of the soft labels are the longest.
const ROWS: usize = 401;
const CLASSES: usize = 17;
const STRIDE: usize = 100;

/// A GPU with small buffers, and the CPU path.
fn engines() -> (Vec<App>, Vec<Engine>) {
    let small = wgpu::Limits {
        max_buffer_size: 64 << 10,
        max_storage_buffer_binding_size: 16 << 10,
        ..wgpu::Limits::default()
    };
    let apps: Vec<App> = App::new(small).into_iter().collect();
    let mut engines: Vec<_> = apps.iter().map(|app| Engine::Gpu(app.gpu())).collect();
    engines.push(Engine::cpu());
    (apps, engines)
}

struct Inputs {
    student: Vec<f32>,
    teacher: Vec<f32>,
    labels: Vec<i32>,
    /// NaN between the rows.
    soft_labels: Vec<half::f16>,
}

impl Inputs {
    fn new() -> Self {
        let y = |i: usize| match i % STRIDE {
            column @ 0..CLASSES => [0.5, 0.0, 0.25, 0.0, 0.0625][(column + i / STRIDE) % 5],
            _ => f32::NAN,
        };
        Self {
            student: noise(ROWS * CLASSES, 41),
            teacher: noise(ROWS * CLASSES, 42),
            labels: labels(ROWS, CLASSES),
            soft_labels: (0..ROWS * STRIDE)
                .map(|i| half::f16::from_f32(y(i)))
                .collect(),
        }
    }

    fn batch(&self) -> Batch<'_> {
        let soft_labels = Logits::new(&self.soft_labels, CLASSES).with_row_stride(STRIDE);
        Batch {
            soft_labels: Some(soft_labels),
            ..Batch::new(&self.student, &self.teacher, &self.labels, CLASSES)
        }
    }
}

#[test]
fn row_ranges_and_single_steps_keep_soft_labels() {
    let inputs = Inputs::new();
    let batch = inputs.batch();
    let (apps, engines) = engines();
    for scope in [Scope::Row, Scope::Batch] {
        let config = Config {
            scope,
            hard_temperature: HardTemperature::Own(1.5),
            label_smoothing: 0.1,
            ..Config::default()
        };
        let want = reference::distill(&config, PROGRESS, &batch).expect("valid");
        for engine in &engines {
            let about = format!("{scope:?} on {}", engine.describe());
            let got = engine.run(&config, PROGRESS, &batch, Outputs::ALL);
            let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
            check_summary(&about, &want.summary, &got.summary);
            let w = 3.0 / f64::from(want.summary.valid_rows);
            let gradient = got.clone().into_grad_student_logits();
            check_rows(&about, &want, &got.rows, &gradient, 1.0, ROUNDING * w);

            let stats = engine.observe(&config, &batch).expect("valid");
            let decisions = engine.decide(&config, PROGRESS, &stats, CLASSES);
            let decisions = decisions.expect("valid");
            let gradient = engine.apply(&config, &batch, &decisions).expect("valid");
            let rows: Vec<_> = decisions.iter().map(|d| d.result).collect();
            check_rows(&about, &want, &rows, &gradient, 1.0, ROUNDING * w);
        }
    }
    apps.iter().for_each(App::is_silent);
}

/// Loss and gradient of two batches agree to rounding.
fn agree(about: &str, engine: &Engine, [first, second]: [(&Config, &Batch<'_>); 2]) {
    let run = |(config, batch): (&Config, &Batch<'_>)| {
        let done = engine.run(config, PROGRESS, batch, Outputs::ALL);
        done.unwrap_or_else(|e| panic!("{about}: {e}"))
    };
    let (first, second) = (run(first), run(second));
    for (a, b) in first.rows.iter().zip(&second.rows) {
        close(
            about,
            a.loss,
            f64::from(b.loss),
            4e-6 * (1.0 + f64::from(b.loss)),
        );
    }
    let first = first.into_grad_student_logits();
    let second = second.into_grad_student_logits();
    for (a, b) in first.iter().zip(&second) {
        close(about, *a, f64::from(*b), 2e-6 / ROWS as f64);
    }
}

#[test]
fn one_class_with_all_of_a_soft_label_is_a_label() {
    let inputs = Inputs::new();
    let batch = Batch::new(&inputs.student, &inputs.teacher, &inputs.labels, CLASSES);
    let mut one_hot = vec![0.0f32; ROWS * CLASSES];
    for (row, label) in inputs.labels.iter().enumerate() {
        if let Ok(label) = usize::try_from(*label) {
            one_hot[row * CLASSES + label] = 1.0;
        }
    }
    let config = Config {
        label_smoothing: 0.25,
        divergence: Divergence::Jsd { beta: 0.5 },
        ..Config::default()
    };
    let (_apps, engines) = engines();
    for engine in engines {
        let about = engine.describe();
        let soft = batch.with_soft_labels(&one_hot);
        agree(&about, &engine, [(&config, &batch), (&config, &soft)]);
    }
}

/// With one share for all rows, the soft label may be part of the teacher: `ln(w y + (1 - w) q)` as its logits.
#[test]
fn a_fixed_share_may_be_a_share_of_the_teacher() {
    const SHARE: f32 = 0.375;
    let inputs = Inputs::new();
    let apart = Config {
        selection: Selection::Fixed(SHARE),
        ..Config::default()
    };
    let merged = Config {
        selection: Selection::Fixed(0.0),
        ..Config::default()
    };
    let share_of = |i: usize| [0.5, 0.25, 0.25].get(i % CLASSES).copied().unwrap_or(0.0);
    let soft_labels: Vec<f32> = (0..ROWS * CLASSES).map(share_of).collect();
    let teacher = Logits::new(&inputs.teacher, CLASSES);
    let q = reference::softmax(&teacher, ROWS, 1.0).expect("valid");
    let share = f64::from(SHARE);
    let mixture = |(y, q): (&f32, &f64)| (share * f64::from(*y) + (1.0 - share) * q).ln() as f32;
    let mixture: Vec<f32> = soft_labels.iter().zip(&q).map(mixture).collect();
    let batch = Batch::new(&inputs.student, &inputs.teacher, &inputs.labels, CLASSES);
    let batch = batch.with_soft_labels(&soft_labels);
    let in_teacher = Batch::new(&inputs.student, &mixture, &inputs.labels, CLASSES);
    let (_apps, engines) = engines();
    for engine in engines {
        let about = engine.describe();
        agree(&about, &engine, [(&apart, &batch), (&merged, &in_teacher)]);
    }
}
