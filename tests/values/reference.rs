//! The f64 reference against PyTorch's float64 autograd and against central differences, and every engine against the same fixtures.
//!
//! `tests/fixtures/generate.py` documents the source of the numbers and each field.

use crate::adapter::{self, gpu};
use crate::cases::Tolerance;
use crate::cases::tolerance::{assert_close, gradient_weight, loss_factor};

use crate::steps::Steps;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{
    Batch, ClassWeighting, Config, Distillation, Divergence, Engine, Gradient, HardTemperature,
    Logits, Outputs, Progress, Reduction, Result, RowResult, Scope, Selection, SmoothedClasses,
    Standardization, TeacherClasses, TeacherTail, TemperatureScaling, TssrGradient, reference,
};

mod slopes;

/// The number of cases in the file. Fewer cases mean that some were lost.
const CASES: usize = 206;

#[derive(Deserialize)]
struct Fixtures {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    why: String,
    rows: usize,
    classes: usize,
    teacher_classes_count: usize,
    #[serde(deserialize_with = "f32s")]
    student_logits: Vec<f32>, // [rows, classes]
    #[serde(deserialize_with = "f32s")]
    teacher_logits: Vec<f32>, // [rows, teacher_classes_count]
    teacher_ids: Option<Vec<i32>>,   // [rows, teacher_classes_count]
    labels: Vec<i32>,                // [rows]
    soft_labels: Option<Vec<f32>>,   // [rows, classes]
    class_weights: Option<Vec<f32>>, // [classes]
    #[serde(deserialize_with = "config")]
    config: Config,
    step: u64,
    total: u64,
    expected: Expected,
    student_probabilities: Vec<f64>, // [rows, classes]
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    kdr: f64,
    tssr: f64,
    valid_rows: u32,
    row_loss: Vec<f64>, // [rows]
    row_kdr: Vec<f64>,  // [rows]
    row_tssr: Vec<f64>, // [rows]
    grad: Vec<f64>,     // [rows, classes]
}

fn fixtures() -> Vec<Case> {
    let text = include_str!("../fixtures/autograd_float64.json");
    let Fixtures { cases } = serde_json::from_str(text).expect("the fixtures parse");
    assert_eq!(cases.len(), CASES, "cases in the file");
    for case in &cases {
        let elements = case.rows * case.classes;
        let lengths = [case.student_logits.len(), case.expected.grad.len()];
        assert_eq!(lengths, [elements; 2], "{}: {}", case.name, case.why);
        assert_eq!(case.labels.len(), case.rows, "{}", case.name);
    }
    cases
}

/// JSON has no infinity, so the file writes it as text.
fn f32s<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
    let value = |number: &Value| match number.as_str() {
        Some("-inf") => f32::NEG_INFINITY,
        _ => number.as_f64().expect("a number") as f32,
    };
    Ok(Vec::deserialize(from)?.iter().map(value).collect())
}

fn config<'de, D: Deserializer<'de>>(from: D) -> Result<Config, D::Error> {
    let json = Value::deserialize(from)?;
    let text = |key: &str, default| json[key].as_str().unwrap_or(default).to_owned();
    let number = |key: &str, default: f32| json[key].as_f64().map_or(default, |x| x as f32);
    let behind = |text: &str, tag: &str| -> f32 {
        let number = text.strip_prefix(tag).expect(tag);
        number.parse().expect("a number behind the tag")
    };
    let fields = json.as_object().expect("an object").keys();
    let unknown: Vec<_> = fields.filter(|f| !FIELDS.contains(&f.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    Ok(Config {
        student_temperature: number("student_temperature", 1.0),
        teacher_temperature: number("teacher_temperature", 1.0),
        temperature_scaling: match text("temperature_scaling", "none").as_str() {
            "none" => TemperatureScaling::None,
            "squared" => TemperatureScaling::Squared,
            other => panic!("temperature_scaling `{other}`"),
        },
        standardization: match text("standardization", "none").as_str() {
            "none" => Standardization::None,
            "z-score" => Standardization::ZScore,
            other => panic!("standardization `{other}`"),
        },
        divergence: text("divergence", "soft-cross-entropy")
            .parse()
            .expect("a divergence"),
        soft_weight: number("soft_weight", 1.0),
        hard_weight: number("hard_weight", 1.0),
        hard_temperature: match json["hard_temperature"].as_f64() {
            Some(own) => HardTemperature::Own(own as f32),
            None => HardTemperature::Student,
        },
        z_loss: number("z_loss", 0.0),
        tssr_gradient: match text("tssr_gradient", "detached").as_str() {
            "detached" => TssrGradient::Detached,
            "attached" => TssrGradient::Attached,
            other => panic!("tssr_gradient `{other}`"),
        },
        similarity: text("similarity", "cosine").parse().expect("a similarity"),
        selection: text("selection", "min").parse().expect("a selection"),
        scope: match text("scope", "row").as_str() {
            "row" => Scope::Row,
            "batch" => Scope::Batch,
            other => Scope::Given(behind(other, "given:")),
        },
        reduction: match text("reduction", "mean").as_str() {
            "none" => Reduction::None,
            "sum" => Reduction::Sum,
            "mean" => Reduction::Mean,
            other => Reduction::SumOver(behind(other, "sum-over:")),
        },
        label_smoothing: number("label_smoothing", 0.0),
        smoothed_classes: match text("smoothed_classes", "all").as_str() {
            "all" => SmoothedClasses::All,
            "unmasked" => SmoothedClasses::Unmasked,
            other => panic!("smoothed_classes `{other}`"),
        },
        loss_clamp: json["loss_clamp"]
            .as_array()
            .map(|bounds| [0, 1].map(|i| bounds[i].as_f64().expect("a number") as f32)),
        ignore_index: json["ignore_index"].as_i64().unwrap_or(-100) as i32,
        grad_loss: number("grad_loss", 1.0),
        teacher_classes: match text("teacher_classes", "same").as_str() {
            "same" => TeacherClasses::SameAsStudent,
            "common-prefix" => TeacherClasses::CommonPrefix,
            other => panic!("teacher_classes `{other}`"),
        },
        class_weighting: match text("class_weighting", "hard").as_str() {
            "hard" => ClassWeighting::Hard,
            "soft" => ClassWeighting::Soft,
            "both" => ClassWeighting::Both,
            other => panic!("class_weighting `{other}`"),
        },
        teacher_tail: match text("teacher_tail", "ghost").as_str() {
            "ghost" => TeacherTail::Ghost,
            "renormalized" => TeacherTail::Renormalized,
            other => panic!("teacher_tail `{other}`"),
        },
        ..Config::default()
    })
}

/// The fields of a configuration in the file. A field that is absent has its default.
const FIELDS: [&str; 22] = [
    "student_temperature",
    "teacher_temperature",
    "temperature_scaling",
    "standardization",
    "divergence",
    "soft_weight",
    "hard_weight",
    "hard_temperature",
    "z_loss",
    "tssr_gradient",
    "similarity",
    "selection",
    "scope",
    "reduction",
    "label_smoothing",
    "smoothed_classes",
    "loss_clamp",
    "ignore_index",
    "grad_loss",
    "teacher_classes",
    "class_weighting",
    "teacher_tail",
];

impl Case {
    fn batch(&self) -> Batch<'_> {
        Batch {
            student_logits: Logits::new(&self.student_logits, self.classes),
            teacher_logits: Logits::new(&self.teacher_logits, self.teacher_classes_count),
            labels: &self.labels,
            soft_labels: (self.soft_labels.as_ref()).map(|y| Logits::new(y, self.classes)),
            row_weights: None,
            class_weights: self.class_weights.as_deref(),
            teacher_ids: self.teacher_ids.as_deref(),
        }
    }

    fn progress(&self) -> Progress {
        Progress::new(self.step, self.total)
    }

    fn is_valid(&self, row: usize) -> bool {
        let label = self.labels[row];
        label != self.config.ignore_index && (0..self.classes as i32).contains(&label)
    }

    /// The factor of `p - y`.
    fn gradient_scale(&self) -> f64 {
        gradient_weight(&self.config, self.expected.valid_rows)
    }
}

/// Loss, KDR and TSSR (the summary's first, then each row's), gradient, softmax of the student.
type Lists = [Vec<f64>; 5];
const NAMES: [&str; 5] = ["loss", "kdr", "tssr", "gradient", "softmax"];

impl Case {
    fn lists(&self) -> Lists {
        let want = &self.expected;
        let all = |first: f64, rows: &[f64]| [&[first], rows].concat();
        [
            all(want.loss, &want.row_loss),
            all(want.kdr, &want.row_kdr),
            all(want.tssr, &want.row_tssr),
            want.grad.clone(),
            self.student_probabilities.clone(),
        ]
    }

    /// Fails unless every number is within its tolerance, a function of its name, the largest magnitude of its row, and its value.
    fn check(&self, about: &str, got: &Lists, tolerance: impl Fn(&str, f64, f64) -> f64) {
        for ((name, got), want) in NAMES.iter().zip(got).zip(self.lists()) {
            assert_eq!(got.len(), want.len(), "{about}: {name}");
            let width = match *name {
                "gradient" | "softmax" => self.classes,
                _ => 1,
            };
            for (row, (got, want)) in got.chunks(width).zip(want.chunks(width)).enumerate() {
                let largest = want.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
                for (i, (got, want)) in got.iter().zip(want).enumerate() {
                    let about = format!("{about}: {name} [{row}, {i}]");
                    assert_close(&about, *got, *want, tolerance(name, largest, *want));
                }
            }
        }
    }

    /// Compares with the tolerances for f32.
    fn check_f32(&self, about: &str, got: &Distillation, softmax: &[f32]) {
        let summary = &got.summary;
        let counts = [summary.valid_rows, summary.ignored_rows];
        let valid = self.expected.valid_rows;
        assert_eq!(counts, [valid, self.rows as u32 - valid], "{about}");
        assert_eq!(summary.non_finite_rows, 0, "{about}");
        let all = |first: f32, of: fn(&RowResult) -> f32| {
            let rows = got.rows.iter().map(of);
            std::iter::once(first).chain(rows).map(f64::from).collect()
        };
        let gradient = got.clone().into_grad_student_logits();
        let lists = [
            all(summary.loss, |r| r.loss),
            all(summary.kdr, |r| r.kdr),
            all(summary.tssr, |r| r.tssr),
            gradient.into_iter().map(f64::from).collect(),
            softmax.iter().copied().map(f64::from).collect(),
        ];
        let scale = self.gradient_scale();
        self.check(about, &lists, |name, largest, want| match name {
            "loss" => Tolerance::F32.loss(want, loss_factor(&self.config)),
            "kdr" | "tssr" => Tolerance::F32.unit,
            "gradient" => Tolerance::F32.gradient(largest, scale),
            _ => Tolerance::F32.gradient(largest, 1.0),
        });
    }
}

fn to_1e10(want: f64) -> f64 {
    1e-10 * want.abs().max(1.0)
}

#[test]
fn reference_equals_autograd() {
    for case in fixtures() {
        let name = &case.name;
        let temperature = case.config.student_temperature;
        let batch = case.batch();
        let got = reference::distill(&case.config, case.progress(), &batch);
        let got = got.unwrap_or_else(|e| panic!("{name}: {e}"));
        let p = reference::softmax(&batch.student_logits, case.rows, temperature);
        let p = p.unwrap_or_else(|e| panic!("{name}: {e}"));
        let summary = &got.summary;
        let valid = reference::valid_rows(&case.labels, case.classes, case.config.ignore_index);
        let counts = [valid, summary.valid_rows];
        assert_eq!(counts, [case.expected.valid_rows; 2], "{name}");
        let rows = || got.rows.iter();
        let all = |first: f64, rows: Vec<f64>| [vec![first], rows].concat();
        let lists = [
            all(summary.loss, rows().map(|r| r.loss).collect()),
            all(summary.kdr, rows().map(|r| r.kdr).collect()),
            all(summary.tssr, rows().map(|r| r.tssr).collect()),
            got.grad_student_logits.clone(),
            p,
        ];
        case.check(name, &lists, |_, _, want| to_1e10(want));
    }
}

/// `reference::select_tssr` alone, from autograd's KDR to autograd's TSSR.
#[test]
fn reference_select_tssr_equals_autograd() {
    let mut selections = std::collections::HashSet::new();
    for case in fixtures() {
        let config = &case.config;
        let tstr = case.step as f64 / case.total as f64;
        for row in (0..case.rows).filter(|row| case.is_valid(*row)) {
            let kdr = match config.scope {
                Scope::Row => case.expected.row_kdr[row],
                Scope::Batch => case.expected.kdr,
                Scope::Given(kdr) => f64::from(kdr),
                other => panic!("{other:?}"),
            };
            let got = match config.selection {
                Selection::Margin(_) => continue,
                other => reference::select_tssr(other, tstr, kdr),
            };
            let about = format!("{}: row {row}", case.name);
            let want = case.expected.row_tssr[row];
            assert_close(&about, got, want, to_1e10(want));
            selections.insert(std::mem::discriminant(&config.selection));
        }
    }
    assert_eq!(
        selections.len(),
        Selection::ALL.len() - 1,
        "every selection"
    );
}

/// The CPU path with every instruction set.
fn cpus() -> Vec<Engine> {
    let reason = String::new();
    let found = Cpu::for_each_instruction_set().into_iter();
    let engine = |cpu| Engine::Cpu {
        cpu,
        reason: reason.clone(),
    };
    let all: Vec<_> = found.map(engine).collect();
    assert!(!all.is_empty());
    all
}

fn whole(engine: &Engine, case: &Case) -> Result<Distillation> {
    engine.run(&case.config, case.progress(), &case.batch(), Outputs::ALL)
}

/// Runs observe, decide and apply in sequence. They give no summary, so the whole method's summary is used.
fn steps(engine: &Engine, case: &Case) -> Result<Distillation> {
    let (config, progress, batch) = (&case.config, case.progress(), case.batch());
    let stats = engine.observe(config, &batch)?;
    let decisions = engine.decide(config, progress, &stats, case.classes)?;
    let gradient = engine.apply(config, &batch, &decisions)?;
    let mut whole = engine.run(config, progress, &batch, Outputs::SUMMARY)?;
    whole.rows = decisions.iter().map(|d| d.result).collect();
    whole.gradient = Some(Gradient::F32(gradient));
    Ok(whole)
}

fn engine_equals_autograd(
    engine: &Engine,
    cases: Vec<Case>,
    way: fn(&Engine, &Case) -> Result<Distillation>,
) {
    for case in cases {
        // The steps have neither weights of classes nor lists of the teacher.
        let has_steps = case.class_weights.is_none() && case.teacher_ids.is_none();
        let way = if has_steps { way } else { whole };
        let about = format!("{}: {}", engine.describe(), case.name);
        let logits = case.batch().student_logits;
        let p = engine.softmax(&logits, case.rows, case.config.student_temperature);
        let p = p.unwrap_or_else(|e| panic!("{about}: {e}"));
        let got = way(engine, &case).unwrap_or_else(|e| panic!("{about}: {e}"));
        case.check_f32(&about, &got, &p);
    }
}

#[test]
fn cpu_equals_autograd() {
    for engine in cpus() {
        engine_equals_autograd(&engine, fixtures(), whole);
        engine_equals_autograd(&engine, fixtures(), steps);
    }
}

#[test]
fn gpu_equals_autograd() {
    let Some(gpu) = gpu() else { return };
    let engine = Engine::Gpu(gpu);
    if crate::cases::is_full() {
        engine_equals_autograd(&engine, fixtures(), whole);
        engine_equals_autograd(&engine, fixtures(), steps);
    } else {
        // A quick run compares the other cases and the single steps through the reference alone.
        let third = fixtures().into_iter().step_by(3).collect();
        engine_equals_autograd(&engine, third, whole);
    }
}

#[test]
fn gpu_without_subgroups_equals_autograd() {
    // A quick run compares these kernels with the reference alone.
    if !crate::cases::is_full() {
        return;
    }
    let Some(gpu) = adapter::without_subgroups() else {
        return;
    };
    engine_equals_autograd(&Engine::Gpu(gpu), fixtures(), whole);
}

/// The other classes have a distribution of their own, which the label's logit does not change.
#[test]
fn a_far_label_leaves_the_other_classes_their_distribution() {
    let parts = [
        Divergence::Dkd {
            alpha: 0.0,
            beta: 1.0,
        },
        Divergence::Nkd { gamma: 1.0 },
    ];
    for divergence in parts {
        let config = Config {
            divergence,
            selection: Selection::Fixed(0.0),
            ..Config::default()
        };
        let with = |label: f32| {
            let (student, teacher) = ([1.5, label, -2.0, 0.25], [-1.0, label, 3.0, 0.5]);
            let batch = Batch::new(&student, &teacher, &[1], 4);
            reference::distill(&config, Progress::NONE, &batch).expect("valid")
        };
        let [near, far] = [0.5, 1e30].map(with);
        assert!(near.summary.loss > 1.0, "{divergence}");
        let all = |of: &reference::Distillation| {
            [&[of.summary.loss][..], &of.grad_student_logits].concat()
        };
        for (far, near) in all(&far).into_iter().zip(all(&near)) {
            assert_close(&divergence.to_string(), far, near, 1e-12);
        }
    }
}
