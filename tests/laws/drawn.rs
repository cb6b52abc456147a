//! Random batches with all that can be chosen, as few of them in a normal run as patience allows.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{FileFailurePersistence, RngSeed, TestRunner};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{
    Batch, Config, Engine, Logits, Outputs, Progress, Reduction, Scope, Selection, Similarity,
    Storage, TemperatureScaling,
};

use crate::buffers;
use crate::cases::compare::Outcome;
use crate::cases::inputs::{Random, Stored, spread};

/// Logits are multiples of it, below `LARGEST`: exact in every storage type, with room for an offset.
pub const STEP: f32 = 1.0 / 8.0;
pub const LARGEST: f32 = 8.0;

/// Which classes are ruled out (`-inf`), every third of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Masked {
    None,
    Both,
    Teacher,
    Student,
}

/// A batch with options.
#[derive(Clone)]
pub struct Drawn {
    pub rows: usize,
    pub classes: usize,
    /// Elements between the rows of student and teacher.
    pub gaps: [usize; 2],
    /// Of student, teacher and gradient.
    pub storage: [Storage; 3],
    pub config: Config,
    pub progress: Progress,
    pub masked: Masked,
    /// For what the law draws itself.
    pub seed: u64,
    pub student: Vec<f32>, // [rows, classes]
    pub teacher: Vec<f32>, // [rows, classes]
    pub labels: Vec<i32>,
}

/// Without the logits, which follow from the seed.
impl fmt::Debug for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rows,
            classes,
            gaps,
            storage,
            config,
            progress,
            masked,
            seed,
            labels,
            ..
        } = self;
        write!(
            f,
            "{rows} x {classes}, gaps {gaps:?}, {storage:?}, masked {masked:?}, {progress:?}, {config:?}, seed {seed}, labels {labels:?}"
        )
    }
}

impl Drawn {
    fn fill(mut self, ignores: bool) -> Self {
        let mut random = Random::new(self.seed);
        let n = self.rows * self.classes;
        let mut value = || {
            let x = (3.0 * random.normal()).clamp(-LARGEST, LARGEST);
            (x / STEP).round() * STEP
        };
        self.student = (0..n).map(|_| value()).collect();
        self.teacher = (0..n).map(|_| value()).collect();
        for i in (0..n).filter(|i| i % self.classes % 3 == 1) {
            if matches!(self.masked, Masked::Both | Masked::Student) {
                self.student[i] = f32::NEG_INFINITY;
            }
            if matches!(self.masked, Masked::Both | Masked::Teacher) {
                self.teacher[i] = f32::NEG_INFINITY;
            }
        }
        let classes = self.classes as u32;
        let label = |_| match random.next() % 4 {
            0 if ignores => self.config.ignore_index,
            _ => (random.next() % classes) as i32,
        };
        self.labels = (0..self.rows).map(label).collect();
        self
    }

    /// The inputs in memory, NaN between the rows.
    pub fn stored(&self) -> [Stored; 2] {
        [0, 1].map(|i| {
            let values = [&self.student, &self.teacher][i];
            let stride = self.classes + self.gaps[i];
            Stored::round(&spread(values, self.classes, stride, 0), self.storage[i])
        })
    }

    pub fn batch<'a>(&'a self, [student, teacher]: &'a [Stored; 2]) -> Batch<'a> {
        let logits = |stored: &'a Stored, gap| {
            Logits::new(stored.values(), self.classes).with_row_stride(self.classes + gap)
        };
        Batch {
            student_logits: logits(student, self.gaps[0]),
            teacher_logits: logits(teacher, self.gaps[1]),
            labels: &self.labels,
        }
    }

    pub fn run(&self, engine: &Engine) -> Result<Outcome, String> {
        let outputs = Outputs {
            rows: true,
            gradient: Some(self.storage[2]),
        };
        let stored = self.stored();
        let done = engine.run(&self.config, self.progress, &self.batch(&stored), outputs);
        let done = done.map_err(|e| e.to_string())?;
        Ok(Outcome {
            summary: done.summary,
            rows: done.rows.clone(),
            gradient: done.into_grad_student_logits(),
        })
    }

    /// Some of the rows, `rows` naming them.
    pub fn rows(&self, rows: impl Iterator<Item = usize> + Clone) -> Self {
        let n = self.classes;
        let take = |of: &[f32]| {
            rows.clone()
                .flat_map(|r| of[r * n..(r + 1) * n].to_vec())
                .collect()
        };
        Self {
            rows: rows.clone().count(),
            student: take(&self.student),
            teacher: take(&self.teacher),
            labels: rows.clone().map(|r| self.labels[r]).collect(),
            ..self.clone()
        }
    }

    /// What multiplies `p - y`.
    pub fn weight(&self) -> f64 {
        let c = &self.config;
        let valid = self.labels.iter().filter(|l| **l != c.ignore_index).count();
        let denominator = match c.reduction {
            Reduction::None | Reduction::Sum => 1.0,
            Reduction::Mean => valid.max(1) as f64,
            Reduction::SumOver(d) => f64::from(d),
        };
        let factor = c.temperature_factor() * f64::from(c.grad_loss.abs());
        factor / f64::from(c.student_temperature) / denominator
    }
}

fn config() -> impl Strategy<Value = Config> {
    let temperature = || select(vec![1.0f32, 2.0, 0.5, 3.7]);
    let choices = (
        select(Similarity::ALL.to_vec()),
        select(Selection::ALL.to_vec()),
        select(vec![
            Scope::Row,
            Scope::Row,
            Scope::Batch,
            Scope::Given(0.375),
        ]),
        select(vec![
            Reduction::Mean,
            Reduction::Mean,
            Reduction::Sum,
            Reduction::None,
            Reduction::SumOver(11.5),
        ]),
    );
    let numbers = (
        temperature(),
        temperature(),
        select(vec![0.0f32, 0.0, 0.125, 0.5]),
        select(vec![1.0f32, -2.0, 128.0]),
        any::<bool>(),
    );
    (choices, numbers).prop_map(
        |((similarity, selection, scope, reduction), (ts, tt, smoothing, grad_loss, squared))| {
            Config {
                student_temperature: ts,
                teacher_temperature: tt,
                temperature_scaling: if squared {
                    TemperatureScaling::Squared
                } else {
                    TemperatureScaling::None
                },
                similarity,
                selection,
                scope,
                reduction,
                label_smoothing: smoothing,
                grad_loss,
                ..Config::default()
            }
        },
    )
}

/// Short rows, many or few; long ones around the edges of units, lanes and blocks, few.
fn shape() -> impl Strategy<Value = (usize, usize)> {
    let edges = vec![
        127usize, 128, 255, 257, 512, 1023, 1025, 2049, 4095, 4096, 4097, 5003,
    ];
    prop_oneof![
        4 => (1usize..9, 1usize..13),
        4 => (1usize..9, 1usize..200),
        1 => (60usize..90, 1usize..40),
        2 => (1usize..4, select(edges)),
    ]
}

/// Any batch; with `ignores` some of its labels are `ignore_index`.
pub fn drawn(ignores: bool) -> impl Strategy<Value = Drawn> {
    let storage = || select(Storage::ALL.to_vec());
    let masked = prop_oneof![
        5 => Just(Masked::None),
        1 => Just(Masked::Both),
        1 => Just(Masked::Teacher),
        1 => Just(Masked::Student),
    ];
    (
        shape(),
        [0usize..5, 0usize..5],
        [storage(), storage(), storage()],
        config(),
        (0u64..9, Just(8u64)),
        masked,
        any::<u64>(),
    )
        .prop_map(
            move |((rows, classes), gaps, storage, config, (step, total), masked, seed)| {
                let drawn = Drawn {
                    rows,
                    classes,
                    gaps,
                    storage,
                    config,
                    progress: Progress::new(step, total),
                    masked,
                    seed,
                    student: Vec::new(),
                    teacher: Vec::new(),
                    labels: Vec::new(),
                };
                drawn.fill(ignores)
            },
        )
}

/// The CPU path by every instruction set, and the GPU under test if there is one.
pub fn engines() -> Vec<Engine> {
    let cpus = Cpu::for_each_instruction_set().into_iter();
    let cpus = cpus.map(|cpu| Engine::Cpu {
        cpu,
        reason: String::new(),
    });
    cpus.chain(buffers::gpu().map(Engine::Gpu)).collect()
}

pub fn is_long() -> bool {
    std::env::var_os("WGPU_DISTILL_LONG").is_some()
}

/// Runs a law on as many cases as there is time for. What failed once is in `tests/laws/regressions.txt` and comes first.
pub fn for_all<S: Strategy>(
    about: &str,
    [few, many]: [u32; 2],
    strategy: &S,
    law: impl Fn(S::Value) -> Result<(), String>,
) where
    S::Value: fmt::Debug,
{
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/laws/regressions.txt");
    let long = is_long();
    let cases = if long { many } else { few };
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(path))),
        // The same every time, but new ones in a long run.
        rng_seed: if long {
            RngSeed::Random
        } else {
            RngSeed::Fixed(1)
        },
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    });
    let done = runner.run(strategy, |value| law(value).map_err(TestCaseError::fail));
    if let Err(why) = done {
        panic!("{about}: {why}");
    }

    // Tests run in threads of their names.
    let thread = std::thread::current();
    let law = thread.name().unwrap_or("a law");
    println!("laws: {law}, {cases} cases passed: {about}");
}

/// A law of batches, on every engine.
pub fn on_every_engine(ignores: bool, law: impl Fn(&Engine, Drawn) -> Result<(), String>) {
    for engine in engines() {
        // A GPU compiles kernels for nearly every case.
        let cases = match engine {
            Engine::Gpu(_) => [16, 300],
            _ => [600, 20_000],
        };
        let about = engine.describe();
        for_all(&about, cases, &drawn(ignores), |d| law(&engine, d));
    }
}
