//! Random batches with random options, and the runner of the laws.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, RngSeed, TestRunner};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{
    Batch, Config, Engine, Logits, Outputs, Progress, Reduction, Scope, Selection, Similarity,
    SmoothedClasses, Storage, TemperatureScaling, reference,
};

use super::losses::{self, with_loss_of};
use crate::cases::compare::{Outcome, further_weights};
use crate::cases::inputs::{Random, Stored, spread};
use crate::cases::tolerance::gradient_weight;
use crate::cases::{is_full, is_long};
use crate::{adapter, report};

/// Logits are multiples of `STEP` up to `LARGEST`, in units of the batch. They are exact in every storage type, with room for an offset.
pub const STEP: f32 = 1.0 / 8.0;
pub const LARGEST: f32 = 8.0;

/// The sides on which every third class is masked (`-inf`).
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
    /// Storage types of student, teacher and gradient.
    pub storage: [Storage; 3],
    pub config: Config,
    pub progress: Progress,
    pub masked: Masked,
    /// A power of two that multiplies all logits.
    pub unit: f32,
    /// The seed for random choices of the law.
    pub seed: u64,
    pub student: Vec<f32>, // [rows, classes]
    pub teacher: Vec<f32>, // [rows, classes]
    pub labels: Vec<i32>,
}

/// Leaves out the logits, which follow from the seed.
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
            unit,
            seed,
            labels,
            ..
        } = self;
        write!(
            f,
            "{rows} x {classes}, gaps {gaps:?}, {storage:?}, masked {masked:?}, times {unit}, {progress:?}, {config:?}, seed {seed}, labels {labels:?}"
        )
    }
}

impl Drawn {
    fn fill(mut self, ignores: bool) -> Self {
        let mut random = Random::new(self.seed);
        let n = self.rows * self.classes;
        let mut value = || {
            let x = (3.0 * random.normal()).clamp(-LARGEST, LARGEST);
            (x / STEP).round() * STEP * self.unit
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

    /// The inputs in memory, with NaN between the rows.
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
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        }
    }

    pub fn run(&self, engine: &Engine) -> Result<Outcome, String> {
        let outputs = Outputs {
            rows: true,
            gradient: Some(self.storage[2]),
            metrics: false,
        };
        let stored = self.stored();
        let done = engine.run(&self.config, self.progress, &self.batch(&stored), outputs);
        let done = done.map_err(|e| e.to_string())?;
        Ok(Outcome {
            summary: done.summary,
            rows: done.rows.clone(),
            metrics: done.metrics.clone(),
            gradient: done.into_grad_student_logits(),
        })
    }

    /// The batch of the rows that `rows` names.
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

    /// The factor of the terms of the gradient: of `p - y` for the method.
    pub fn weight(&self) -> f64 {
        let c = &self.config;
        let valid = self.labels.iter().filter(|l| **l != c.ignore_index).count();
        let stored = self.stored();
        let batch = self.batch(&stored);
        let done = reference::distill(c, self.progress, &batch).expect("a valid batch");
        let further = further_weights(c, &batch, &done);
        gradient_weight(c, valid as u32) + further.into_iter().fold(0.0, f64::max)
    }
}

pub fn config() -> impl Strategy<Value = Config> {
    (method(), losses::parts()).prop_map(|(config, parts)| with_loss_of(config, &parts))
}

/// The fields that the method has.
fn method() -> impl Strategy<Value = Config> {
    let temperature = || select(vec![1.0f32, 1.0, 2.0, 0.5, 3.7, 0.125, 20.0]);
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
        any::<[bool; 2]>(),
    );
    (choices, numbers).prop_map(
        |((similarity, selection, scope, reduction), (ts, tt, smoothing, grad_loss, flags))| {
            let [squared, unmasked] = flags;
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
                smoothed_classes: match unmasked {
                    true => SmoothedClasses::Unmasked,
                    false => SmoothedClasses::All,
                },
                grad_loss,
                ..Config::default()
            }
        },
    )
}

/// Short rows, few or many, and a few long rows around the edges of vectors, lanes and tiles.
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

/// The range of choices that kernels are compiled for.
#[derive(Clone, Copy)]
pub enum Kernels {
    /// Any choices.
    Any,
    /// Five choices, the same in every law, since a GPU compiles a kernel far slower than it runs it.
    Few,
}

/// The choices that a kernel depends on: shape, gaps, storage, similarity, scope, smoothing and loss.
#[derive(Clone, Debug)]
pub struct Made {
    pub shape: (usize, usize),
    pub gaps: [usize; 2],
    pub storage: [Storage; 3],
    pub config: Config,
}

pub fn made(kernels: Kernels) -> BoxedStrategy<Made> {
    let storage = || select(Storage::ALL.to_vec());
    let any = (
        shape(),
        [0usize..5, 0usize..5],
        [storage(), storage(), storage()],
        config(),
    );
    let any = any.prop_map(|(shape, gaps, storage, config)| Made {
        shape,
        gaps,
        storage,
        config,
    });
    if matches!(kernels, Kernels::Any) {
        return any.boxed();
    }
    some_of(&any).boxed()
}

/// One of five values, the same five in every call.
pub fn some_of<S: Strategy>(any: &S) -> impl Strategy<Value = S::Value> + use<S>
where
    S::Value: Clone + fmt::Debug + 'static,
{
    let mut runner = TestRunner::new(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    });
    let mut one = || any.new_tree(&mut runner).expect("nothing is filtered");
    select((0..5).map(|_| one().current()).collect::<Vec<_>>())
}

/// The configuration with the choices that kernels are compiled for from another one.
pub fn compiled(made: &Config, config: Config) -> Config {
    let reads_label = |config: &Config| matches!(config.selection, Selection::Margin(_));
    let config = Config {
        similarity: made.similarity,
        scope: made.scope,
        label_smoothing: made.label_smoothing,
        smoothed_classes: made.smoothed_classes,
        selection: match reads_label(made) == reads_label(&config) {
            true => config.selection,
            false => made.selection,
        },
        ..config
    };
    with_loss_of(config, made)
}

/// Any batch. With `ignores`, some labels are `ignore_index`.
pub fn drawn(kernels: Kernels, ignores: bool) -> impl Strategy<Value = Drawn> {
    let masked = prop_oneof![
        5 => Just(Masked::None),
        1 => Just(Masked::Both),
        1 => Just(Masked::Teacher),
        1 => Just(Masked::Student),
    ];
    (
        made(kernels),
        config(),
        0u64..9,
        masked,
        select(vec![1.0f32, 1.0, 1.0, 4.0, 16.0]),
        any::<u64>(),
    )
        .prop_map(move |(made, config, step, masked, unit, seed)| {
            let drawn = Drawn {
                rows: made.shape.0,
                classes: made.shape.1,
                gaps: made.gaps,
                storage: made.storage,
                config: compiled(&made.config, config),
                progress: Progress::new(step, 8),
                masked,
                unit,
                seed,
                student: Vec::new(),
                teacher: Vec::new(),
                labels: Vec::new(),
            };
            drawn.fill(ignores)
        })
}

/// The CPU path with every instruction set, and the GPU under test if there is one, with and without subgroups.
pub fn engines() -> Vec<Engine> {
    let cpus = Cpu::for_each_instruction_set().into_iter();
    let cpus = cpus.map(|cpu| Engine::Cpu {
        cpu,
        reason: String::new(),
    });
    let plain = adapter::without_subgroups();
    let gpus = adapter::with_subgroups("laws with subgroups").into_iter();
    cpus.chain(gpus.chain(plain).map(Engine::Gpu)).collect()
}

/// The number of cases on a GPU: a third of them in a quick run.
pub fn of_gpu(cases: u32) -> u32 {
    if is_full() { cases } else { cases / 3 }
}

/// The name of the test that contains the closure, and a seed from that name, so that each law uses different cases.
fn name_and_seed<L>(_: &L) -> (&'static str, u64) {
    let path = std::any::type_name::<L>();
    let name = path.split("::{").next().unwrap_or(path);
    let name = name.split_once("laws::").map_or(name, |(_, name)| name);
    let mix = |seed: u64, byte: u8| seed.rotate_left(9).wrapping_mul(31) ^ u64::from(byte);
    (name, name.bytes().fold(1, mix))
}

/// Runs a law on random cases, `cases[0]` in a normal run and `cases[1]` in a long one.
///
/// Inputs that once failed are in `tests/values/laws/regressions.txt` and run first.
pub fn for_all<S: Strategy, L: Fn(S::Value) -> Result<(), String>>(
    about: &str,
    cases: [u32; 2],
    strategy: &S,
    law: L,
) where
    S::Value: fmt::Debug,
{
    run(name_and_seed(&law), about, cases, strategy, law);
}

fn run<S: Strategy>(
    (name, seed): (&str, u64),
    about: &str,
    [few, many]: [u32; 2],
    strategy: &S,
    law: impl Fn(S::Value) -> Result<(), String>,
) where
    S::Value: fmt::Debug,
{
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/values/laws/regressions.txt"
    );
    let long = is_long();
    let cases = if long { many } else { few };
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(path))),
        // The same cases every time, but new ones in a long run.
        rng_seed: if long {
            RngSeed::Random
        } else {
            RngSeed::Fixed(seed)
        },
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    });
    let done = runner.run(strategy, |value| law(value).map_err(TestCaseError::fail));
    if let Err(why) = done {
        panic!("{name}, {about}: {why}");
    }
    let place = if about.starts_with("CPU path") {
        "CPU path"
    } else {
        "GPU"
    };
    report::ran(&format!(
        "laws [{place}]: {name}, {cases} cases passed: {about}"
    ));
}

/// Runs a law of random batches on every engine.
pub fn on_every_engine<S: Strategy<Value = Drawn>, L: Fn(&Engine, Drawn) -> Result<(), String>>(
    draw: impl Fn(Kernels) -> S,
    law: L,
) {
    on_engines(engines(), draw, law);
}

/// The same for a law whose kernels the table has: on the CPU path alone, but in a full run.
pub fn on_the_cpu_path<S: Strategy<Value = Drawn>, L: Fn(&Engine, Drawn) -> Result<(), String>>(
    draw: impl Fn(Kernels) -> S,
    law: L,
) {
    let runs = |engine: &Engine| is_full() || matches!(engine, Engine::Cpu { .. });
    let engines = engines().into_iter().filter(runs).collect();
    on_engines(engines, draw, law);
}

fn on_engines<S: Strategy<Value = Drawn>, L: Fn(&Engine, Drawn) -> Result<(), String>>(
    engines: Vec<Engine>,
    draw: impl Fn(Kernels) -> S,
    law: L,
) {
    for engine in engines {
        let (kernels, cases) = match engine {
            Engine::Gpu(_) if is_long() => (Kernels::Any, [0, 300]),
            Engine::Gpu(_) => (Kernels::Few, [of_gpu(24), 0]),
            _ => (Kernels::Any, [600, 20_000]),
        };
        let (about, law_of) = (engine.describe(), name_and_seed(&law));
        run(law_of, &about, cases, &draw(kernels), |d| law(&engine, d));
    }
}
