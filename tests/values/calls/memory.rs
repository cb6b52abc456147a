//! `run_into`: rows, a gradient with gaps between its rows, and accumulation, in every storage type.

use wgpu_distill::half::{bf16, f16};
use wgpu_distill::{
    Batch, Config, Engine, Error, GradWrite, Gradient, GradientMut, Outputs, OutputsMut, Progress,
    RowResult, Storage,
};

use super::{SIX, engines};
use crate::cases::inputs::{self, Kind};
use crate::cases::tolerance::assert_close;

const HALFWAY: Progress = Progress { step: 1, total: 2 };
const ROWS: usize = 37;
const CLASSES: usize = 1030;

struct Problem {
    student: Vec<f32>,
    teacher: Vec<f32>,
    labels: Vec<i32>,
}

impl Problem {
    fn new() -> Self {
        let (student, teacher) = inputs::logits(Kind::Normal, ROWS, CLASSES, CLASSES, 21);
        let label = |row: usize| {
            if row % 5 == 3 {
                -100
            } else {
                (row * 27) as i32
            }
        };
        Self {
            student,
            teacher,
            labels: (0..ROWS).map(label).collect(),
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch::new(&self.student, &self.teacher, &self.labels, CLASSES)
    }
}

/// Values in `storage` with both signs, whose sums need rounding.
fn before(storage: Storage, n: usize) -> Gradient {
    let value = |i: usize| [0.37, -0.0, 1e-3, -2.9e-5, 0.0][i % 5] * (1.0 + (i % 7) as f32);
    let values = (0..n).map(value);
    match storage {
        Storage::F32 => Gradient::F32(values.collect()),
        Storage::F16 => Gradient::F16(values.map(f16::from_f32).collect()),
        Storage::Bf16 => Gradient::Bf16(values.map(bf16::from_f32).collect()),
    }
}

/// Element `i` widened to f32.
fn at(gradient: &Gradient, i: usize) -> f32 {
    match gradient {
        Gradient::F32(v) => v[i],
        Gradient::F16(v) => v[i].to_f32(),
        Gradient::Bf16(v) => v[i].to_f32(),
    }
}

fn round(storage: Storage, x: f32) -> f32 {
    match storage {
        Storage::F32 => x,
        Storage::F16 => f16::from_f32(x).to_f32(),
        Storage::Bf16 => bf16::from_f32(x).to_f32(),
    }
}

/// The approximate distance from a number to the next one of its storage type.
fn unit(storage: Storage, x: f32) -> f32 {
    match storage {
        Storage::F32 => x.abs() * 2.4e-7 + 1e-9,
        Storage::F16 => x.abs() / 1024.0 + 6e-8,
        Storage::Bf16 => x.abs() / 128.0 + 1e-9,
    }
}

fn check(engine: &Engine, storage: Storage, gap: usize, write: GradWrite) {
    let about = format!("{}, {storage:?}, gap {gap}, {write:?}", engine.describe());
    let problem = Problem::new();
    let batch = problem.batch();
    let stride = CLASSES + gap;
    let config = Config::default();
    let new = engine.run(&config, HALFWAY, &batch, Outputs::ALL);
    let new = new.unwrap_or_else(|e| panic!("{about}: {e}"));
    let gradient = new.gradient.expect("asked for");
    // The gap after the last row is optional.
    for elements in [(ROWS - 1) * stride + CLASSES, ROWS * stride] {
        let there = before(storage, elements);
        let mut memory = there.clone();
        let mut rows = vec![RowResult::default(); ROWS];
        let outputs = OutputsMut {
            rows: Some(&mut rows),
            gradient: Some(GradientMut::new(&mut memory, CLASSES).with_row_stride(stride)),
            metrics: None,
        };
        let config = Config {
            grad_write: write,
            ..config
        };
        let summary = engine.run_into(&config, HALFWAY, &batch, outputs);
        assert_eq!(summary, Ok(new.summary), "{about}");
        assert_eq!(rows, new.rows, "{about}");
        for i in 0..elements {
            let (row, class) = (i / stride, i % stride);
            let (got, old) = (at(&memory, i), at(&there, i));
            let ignored = write == GradWrite::Accumulate && problem.labels[row] == -100;
            if class >= CLASSES || ignored {
                assert_eq!(got, old, "{about}: [{row}, {class}]");
                continue;
            }
            let own = at(&gradient, row * CLASSES + class);
            let sum = match write {
                GradWrite::Accumulate => old + own,
                _ => own,
            };
            let want = round(storage, sum);
            // A driver may round a sum that lies between two neighbours to either.
            let allowed = match engine {
                Engine::Cpu { .. } => 0.0,
                _ => unit(storage, want),
            };
            let off = (got - want).abs();
            assert!(
                off <= allowed,
                "{about}: [{row}, {class}] {got}, want {want}"
            );
        }
    }
}

#[test]
fn gradients_are_written_and_accumulated_row_by_row() {
    for engine in engines() {
        for storage in Storage::ALL {
            for gap in [0, 1, 6] {
                for write in [GradWrite::Overwrite, GradWrite::Accumulate] {
                    check(&engine, storage, gap, write);
                }
            }
        }
    }
}

/// Rows accumulated one by one give the sum of their gradients.
#[test]
fn halves_accumulate_to_the_whole() {
    let problem = Problem::new();
    let config = Config {
        reduction: wgpu_distill::Reduction::Sum,
        grad_write: GradWrite::Accumulate,
        ..Config::default()
    };
    let whole = Config {
        grad_write: GradWrite::Overwrite,
        ..config
    };
    for engine in engines() {
        let want = engine.run(&whole, HALFWAY, &problem.batch(), Outputs::GRADIENT);
        let want = want.expect("valid").into_grad_student_logits();
        let mut sum = vec![0.0f32; CLASSES];
        let mut by_row = vec![0.0f32; CLASSES];
        for row in 0..ROWS {
            let of = row * CLASSES..(row + 1) * CLASSES;
            by_row
                .iter_mut()
                .zip(&want[of.clone()])
                .for_each(|(s, g)| *s += g);
            let labels = &problem.labels[row..=row];
            let batch = Batch::new(
                &problem.student[of.clone()],
                &problem.teacher[of],
                labels,
                CLASSES,
            );
            let outputs = GradientMut::new(&mut sum, CLASSES).into();
            let done = engine.run_into(&config, HALFWAY, &batch, outputs);
            assert!(done.is_ok(), "{done:?}");
        }
        for (got, want) in sum.iter().zip(&by_row) {
            let (got, want) = (f64::from(*got), f64::from(*want));
            // One engine computes both from the same rows, so the bound is below `Tolerance` for 37 rows of weight 1.
            assert_close(&engine.describe(), got, want, 1e-5);
        }
    }
}

#[test]
fn nothing_but_the_summary_may_be_asked_for() {
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    for engine in engines() {
        let run = engine.run(&Config::default(), HALFWAY, &batch, Outputs::SUMMARY);
        let into = engine.run_into(&Config::default(), HALFWAY, &batch, OutputsMut::default());
        assert_eq!(into, run.map(|done| done.summary));
    }
}

#[test]
fn memory_of_another_shape_is_refused() {
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    let mut values = [0.0f32; 16];
    let short = |needed, got| Error::SliceTooSmall {
        name: "gradient",
        needed,
        got,
    };
    let long = |row_stride, got| Error::SliceTooLarge {
        name: "gradient",
        rows: 2,
        row_stride,
        limit: 2 * row_stride,
        got,
    };
    let shape = |got| Error::GradientShape { classes: 3, got };
    let stride = Error::RowStrideTooSmall {
        name: "gradient",
        row_stride: 2,
        classes: 3,
    };
    let cases = [
        (5, 3, 3, short(6, 5)),
        (7, 3, 3, long(3, 7)),
        (7, 3, 5, short(8, 7)),
        (11, 3, 5, long(5, 11)),
        (8, 4, 4, shape(4)),
        (4, 2, 2, shape(2)),
        (6, 3, 2, stride),
        (0, 0, 3, Error::ZeroClasses { name: "gradient" }),
    ];
    for engine in engines() {
        for (elements, classes, row_stride, want) in &cases {
            let gradient = GradientMut::new(&mut values[..*elements], *classes);
            let outputs = gradient.with_row_stride(*row_stride).into();
            let done = engine.run_into(&Config::default(), HALFWAY, &batch, outputs);
            assert_eq!(done.as_ref(), Err(want));
        }
        for got in [0, 1, 3] {
            let mut rows = vec![RowResult::default(); got];
            let outputs = OutputsMut {
                rows: Some(&mut rows),
                gradient: None,
                metrics: None,
            };
            let done = engine.run_into(&Config::default(), HALFWAY, &batch, outputs);
            let (name, rows) = ("rows", 2);
            assert_eq!(done, Err(Error::RowCount { name, rows, got }));
        }
    }
}

/// Accumulation leaves the bits of ignored rows as they are: arithmetic would turn -0 into 0, and may change a NaN.
#[test]
fn accumulation_does_not_touch_ignored_rows() {
    let config = Config {
        grad_write: GradWrite::Accumulate,
        ..Config::default()
    };
    let labels = [config.ignore_index, 1];
    let batch = Batch::new(&SIX, &SIX, &labels, 3);
    for engine in engines() {
        let before = [-0.0, f32::NAN, f32::INFINITY, 1.0, 1.0, 1.0];
        let mut gradient = before;
        let outputs = OutputsMut {
            gradient: Some(GradientMut::new(&mut gradient[..], 3)),
            ..OutputsMut::default()
        };
        let done = engine.run_into(&config, HALFWAY, &batch, outputs);
        assert_eq!(done.expect("valid").ignored_rows, 1);
        let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let about = engine.describe();
        assert_eq!(bits(&gradient[..3]), bits(&before[..3]), "{about}");
        assert_ne!(bits(&gradient[3..]), bits(&before[3..]), "{about}");
    }
}
