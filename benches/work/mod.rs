//! The measured work: inputs by formula, one call of the whole method, a check of its result, and its time.

// Each bench compiles this module and uses a part of it.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use rayon::prelude::*;
use wgpu_distill::cpu::Cpu;
use wgpu_distill::half::{bf16, f16};
use wgpu_distill::plan::Tiling;
use wgpu_distill::{
    Batch, Config, Divergence, Engine, Gradient, GradientMut, Logits, Progress, Result, Selection,
    Storage, Summary, Values, reference,
};

use gpu::GpuRunner;
use inputs::{label, logit};

pub mod gpu;
mod inputs;
mod timer;

/// Half of the training.
pub const PROGRESS: Progress = Progress { step: 1, total: 2 };

/// The name of the default configuration among the losses.
pub const METHOD: &str = "method";

/// The largest problem, in logits, whose loss is compared with the reference over all rows.
const WHOLE_LOSS: usize = 1 << 20;

/// The configuration of a loss: `method` for the default, or a divergence in its text form, such as `reverse-kl` or `jsd:0.5`. The loss is
/// then the divergence from the teacher alone, without the label's part.
///
/// # Errors
/// The error of a divergence that does not exist, or whose numbers are out of range.
pub fn config(loss: &str) -> Result<Config> {
    if loss == METHOD {
        return Ok(Config::default());
    }
    Ok(Config {
        divergence: loss.parse::<Divergence>()?,
        selection: Selection::Fixed(0.0),
        ..Config::default()
    })
}

/// Owned values in one of the storage types.
pub fn stored(storage: Storage, values: Vec<f32>) -> Gradient {
    match storage {
        Storage::F32 => Gradient::F32(values),
        Storage::F16 => Gradient::F16(values.into_par_iter().map(f16::from_f32).collect()),
        Storage::Bf16 => Gradient::Bf16(values.into_par_iter().map(bf16::from_f32).collect()),
    }
}

fn values(stored: &Gradient) -> Values<'_> {
    match stored {
        Gradient::F32(v) => v.into(),
        Gradient::F16(v) => v.into(),
        Gradient::Bf16(v) => v.into(),
    }
}

/// One problem: its inputs and the configuration of the loss.
pub struct Work {
    pub rows: usize,
    pub classes: usize,
    pub storage: Storage,
    pub config: Config,
    student: Gradient,
    teacher: Gradient,
    /// `[rows]`: the teacher's log-probability of each label, for losses of sampled tokens.
    tokens: Gradient,
    labels: Vec<i32>,
}

impl Work {
    /// A problem with the method's default configuration.
    pub fn new(rows: usize, classes: usize, storage: Storage, seed: u64) -> Self {
        let matrix = |stream| {
            let all = (0..(rows * classes) as u64).into_par_iter();
            stored(storage, all.map(|i| logit(seed, stream, i)).collect())
        };
        Self {
            rows,
            classes,
            storage,
            config: Config::default(),
            student: matrix(0),
            teacher: matrix(1),
            tokens: stored(
                storage,
                (0..rows as u64)
                    .map(|i| logit(seed, 3, i) / 8.0 - 8.0)
                    .collect(),
            ),
            labels: (0..rows as u64)
                .map(|row| label(seed, row, classes))
                .collect(),
        }
    }

    pub fn batch(&self) -> Batch<'_> {
        let teacher = match self.config.divergence.is_sampled() {
            true => Logits::new(values(&self.tokens), 1),
            false => Logits::new(values(&self.teacher), self.classes),
        };
        Batch {
            student_logits: Logits::new(values(&self.student), self.classes),
            teacher_logits: teacher,
            labels: &self.labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        }
    }

    /// Bytes by the byte model: both rows read once, one written. Of sampled tokens, the student's row and one number of the teacher.
    pub fn model_bytes(&self) -> u64 {
        model_bytes(&self.config, self.rows, self.classes, self.storage)
    }

    /// Compares the gradient of a few rows with the f64 reference, and the loss of a small problem. `row_of` returns the gradient of one row.
    fn check(&self, row_of: impl Fn(usize) -> Gradient, summary: &Summary) {
        assert_eq!(summary.valid_rows as usize, self.rows);
        // The estimate k1 of a token has any sign.
        let signed = matches!(self.config.divergence, Divergence::K1 { .. });
        assert!(summary.loss.is_finite() && (signed || summary.loss > 0.0));
        let n = self.classes;
        if self.rows * n <= WHOLE_LOSS {
            let want = reference::distill(&self.config, PROGRESS, &self.batch()).expect("valid");
            let (got, want) = (f64::from(summary.loss), want.summary.loss);
            let close = (got - want).abs() <= 1e-5 * want.abs() + 1e-6;
            assert!(close, "loss {got}, want {want}");
        }
        for row in [0, self.rows / 2, self.rows - 1] {
            let gradient = row_of(row);
            let got = values(&gradient);
            let all = self.batch();
            let cut = |logits: &Logits<'_>| -> Vec<f32> {
                let range = row * logits.classes..(row + 1) * logits.classes;
                range.map(|i| logits.values.get(i)).collect()
            };
            let (student, teacher) = (cut(&all.student_logits), cut(&all.teacher_logits));
            let batch = Batch {
                student_logits: Logits::new(&student, n),
                teacher_logits: Logits::new(&teacher, all.teacher_logits.classes),
                labels: &self.labels[row..=row],
                soft_labels: None,
                row_weights: None,
                class_weights: None,
                teacher_ids: None,
            };
            let want = reference::distill(&self.config, PROGRESS, &batch).expect("valid");
            // These gradients are a logarithm minus its mean. Both have a rounding error relative to their terms: the loss, or the distances of the
            // logits from their maximum, up to 40.
            let terms = match self.config.divergence {
                Divergence::ReverseKl | Divergence::KlSum { .. } => 40.0,
                Divergence::SkewReverseKl { .. } => 1.0 + want.summary.loss,
                // `r p` and `r` of the label cancel where `p` is near 1.
                Divergence::K1 { .. } | Divergence::K2 { .. } | Divergence::K3 { .. } => {
                    1.0 + want.summary.loss.abs()
                }
                _ => 1.0,
            };
            let want = &want.grad_student_logits;
            let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            let unit = match self.storage {
                Storage::F32 => 1e-5,
                Storage::F16 => 1e-3,
                Storage::Bf16 => 8e-3,
            };
            for (i, exact) in want.iter().enumerate() {
                let g = f64::from(got.get(i)) * self.rows as f64;
                let error = (g - exact).abs();
                // Subnormal f16 numbers have a fixed unit, which counts times the number of rows.
                let floor = if self.storage == Storage::F16 {
                    1e-7 * self.rows as f64
                } else {
                    0.0
                };
                let bound = unit * largest + 3e-7 * terms + floor;
                assert!(error <= bound, "row {row}, class {i}: {g}, want {exact}");
            }
        }
    }
}

/// The bytes of [`Work::model_bytes`].
pub fn model_bytes(config: &Config, rows: usize, classes: usize, storage: Storage) -> u64 {
    let elements = match config.divergence.is_sampled() {
        true => 2 * rows * classes + rows,
        false => 3 * rows * classes,
    };
    (storage.bytes() * elements) as u64
}

/// The whole method with a gradient, written to memory that is reused.
pub enum Runner {
    Cpu { cpu: Cpu, gradient: Gradient },
    Gpu(Box<GpuRunner>),
}

impl Runner {
    pub fn new(engine: &Engine, work: &Work) -> Self {
        Self::with_tiling(engine, work, None).expect("every device can run the plan's own tiling")
    }

    /// Uses the given tiling on a GPU.
    ///
    /// # Errors
    /// Those of a tiling that the device cannot run.
    pub fn with_tiling(engine: &Engine, work: &Work, tiling: Option<&Tiling>) -> Result<Self> {
        Ok(match engine {
            Engine::Gpu(gpu) => Self::Gpu(Box::new(GpuRunner::new(gpu, work, tiling)?)),
            _ => {
                let cpu = Cpu::new();
                let gradient = stored(work.storage, vec![0.0; work.rows * work.classes]);
                Self::Cpu { cpu, gradient }
            }
        })
    }

    /// Plans anew for the same inputs, after `work.config` has changed or for another tiling.
    ///
    /// # Errors
    /// Those of a tiling that the device cannot run. The old plan stays.
    pub fn plan_for(&mut self, work: &Work, tiling: Option<&Tiling>) -> Result<()> {
        if let Self::Gpu(runner) = self {
            runner.planned = runner.planned_for(&work.config, tiling)?;
        }
        Ok(())
    }

    /// Makes one call. Returns the device's time on a GPU with time stamps, else the clock's time.
    pub fn time(&mut self, work: &Work) -> Duration {
        match self {
            Self::Cpu { .. } => self.wall(work),
            Self::Gpu(runner) => runner.time(&runner.planned),
        }
    }

    /// Makes one call. Returns the clock's time until the result is there.
    pub fn wall(&mut self, work: &Work) -> Duration {
        match self {
            Self::Cpu { cpu, gradient } => {
                let gradient = GradientMut::new(gradient, work.classes).into();
                let start = Instant::now();
                let done = cpu.run_into(&work.config, PROGRESS, &work.batch(), gradient);
                let wall = start.elapsed();
                done.expect("the work is valid");
                wall
            }
            Self::Gpu(runner) => runner.wall(),
        }
    }

    /// Runs once more and compares the answer with the reference. Returns the loss.
    pub fn check(&mut self, work: &Work) -> f32 {
        match self {
            Self::Cpu { cpu, gradient } => {
                let target = GradientMut::new(&mut *gradient, work.classes).into();
                let done = cpu.run_into(&work.config, PROGRESS, &work.batch(), target);
                let summary = done.expect("the work is valid");
                let n = work.classes;
                let row_of = |row: usize| {
                    let range = row * n..(row + 1) * n;
                    match &*gradient {
                        Gradient::F32(v) => Gradient::F32(v[range].to_vec()),
                        Gradient::F16(v) => Gradient::F16(v[range].to_vec()),
                        Gradient::Bf16(v) => Gradient::Bf16(v[range].to_vec()),
                    }
                };
                work.check(row_of, &summary);
                summary.loss
            }
            Self::Gpu(runner) => runner.check(&runner.planned, work),
        }
    }

    pub fn plan(&self) -> String {
        match self {
            Self::Cpu { cpu, .. } => cpu.describe(),
            Self::Gpu(runner) => runner.planned.plan.to_string(),
        }
    }

    /// The time of the exponentials alone, in tiles that stay in the first-level cache; on the CPU path.
    pub fn exponentials(&self, work: &Work) -> Option<Duration> {
        let Self::Cpu { cpu, .. } = self else {
            return None;
        };
        let once = |_| {
            let start = Instant::now();
            std::hint::black_box(cpu.exponentials(work.rows, work.classes));
            start.elapsed()
        };
        (0..5).map(once).min()
    }

    /// Bytes read and written per second by a plain copy on the same device.
    pub fn copy_bandwidth(&mut self) -> f64 {
        match self {
            Self::Cpu { .. } => {
                let bytes: u64 = 256 << 20;
                let from = vec![1u8; bytes as usize / 2];
                let mut to = vec![0u8; bytes as usize / 2];
                let once = |_| {
                    let start = Instant::now();
                    let part = 1 << 20;
                    to.par_chunks_mut(part)
                        .zip(from.par_chunks(part))
                        .for_each(|(to, from)| to.copy_from_slice(from));
                    start.elapsed()
                };
                let best = (0..12).map(once).min().expect("there are several");
                bytes as f64 / best.as_secs_f64()
            }
            Self::Gpu(runner) => runner.copy_bandwidth(),
        }
    }
}

/// The engine with this name: `cpu`, `auto`, or a part of an adapter's name.
pub fn engine(name: &str) -> Engine {
    match name {
        "cpu" => Engine::cpu(),
        "auto" => Engine::auto(),
        name => Engine::gpu(name).unwrap_or_else(|e| {
            eprintln!("{e}");
            std::process::exit(1);
        }),
    }
}
