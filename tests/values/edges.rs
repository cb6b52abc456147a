//! Edges that the table of cases does not reach: a million rows, a single class, mixtures of extreme values, inputs that share a buffer.

mod browser;
mod long_rows;
mod masked;
mod sampled;
mod shared;
mod standardized;
mod taid;

use crate::buffers::{self, Bench};
use crate::cases::compare::{self, Outcome};
use crate::cases::inputs::{Kind, Random, Stored};
use crate::cases::tolerance::assert_close;
use crate::cases::{self, Ignores, Tolerance};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{
    Batch, Engine, Outputs, Progress, Reduction, Scope, Selection, Similarity, Storage, reference,
};

/// The CPU path with every instruction set, and the GPU under test.
fn engines() -> Vec<Engine> {
    let cpu = |cpu| Engine::Cpu {
        cpu,
        reason: String::new(),
    };
    let cpus = Cpu::for_each_instruction_set().into_iter().map(cpu);
    cpus.chain(buffers::gpu().map(Engine::Gpu)).collect()
}

/// Checks a case on every engine against the reference.
fn check(about: &str, case: &cases::Case, batch: &Batch<'_>) {
    let want = reference::distill(&case.config, case.progress, batch).expect("valid");
    for engine in engines() {
        check_one(
            &format!("{about}, {}", engine.describe()),
            &engine,
            case,
            batch,
            &want,
        );
    }
}

fn check_one(
    about: &str,
    engine: &Engine,
    case: &cases::Case,
    batch: &Batch<'_>,
    want: &reference::Distillation,
) {
    let outputs = Outputs {
        rows: true,
        gradient: Some(case.storage[2]),
        metrics: case.metrics,
    };
    let done = engine.run(&case.config, case.progress, batch, outputs);
    let done = done.unwrap_or_else(|e| panic!("{about}: {e}"));
    let mut got = Outcome {
        summary: done.summary,
        rows: done.rows.clone(),
        metrics: done.metrics.clone(),
        gradient: done.into_grad_student_logits(),
    };
    let mut want = want.clone();
    // In f32 the distance from the maximum, in units of log2(e) over the temperature, overflows (on a GPU at 1e37).
    // Such a distance times a probability below 1e-38, which counts as 0, may give any loss. These losses are not compared.
    let student = &batch.student_logits;
    for row in 0..case.rows {
        let value = |i| student.values.get(row * student.row_stride + i);
        let is_far = |x: f32| x.is_finite() && x.abs() > 1e36 * case.config.student_temperature;
        let losses = [f64::from(got.rows[row].loss), want.rows[row].loss];
        if (0..case.classes).any(|i| is_far(value(i))) && losses.iter().all(|loss| *loss >= 0.0) {
            (got.rows[row].loss, want.rows[row].loss) = (0.0, 0.0);
            want.summary.loss = f64::from(got.summary.loss);
        }
    }
    if let Err(why) = compare::check(case, &want, &got) {
        panic!("{about}: {why}");
    }
}

/// More rows than the workgroups of one dispatch dimension.
#[test]
fn a_million_short_rows() {
    for (rows, classes, scope) in [
        (65_536, 3, Scope::Row),
        (1_000_000, 1, Scope::Batch),
        (1_000_000, 2, Scope::Row),
    ] {
        let mut case = cases::Case::of_shape(rows, classes, Kind::Normal, [Storage::F32; 3]);
        case.ignores = Ignores::EveryThird;
        case.config.scope = scope;
        let host = case.host();
        let about = format!("{rows} x {classes}, {scope:?}");
        check(&about, &case, &host.batch());
        if let Some(gpu) = buffers::gpu() {
            let want = reference::distill(&case.config, case.progress, &host.batch());
            let got = Bench::new(gpu)
                .run(&case)
                .unwrap_or_else(|e| panic!("{about}: {e}"));
            if let Err(why) = compare::check(&case, &want.expect("valid"), &got) {
                panic!("{about}, buffers: {why}");
            }
        }
    }
}

/// Values known to break softmax implementations.
const HARD: [f32; 14] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    1e30,
    -1e30,
    f32::MAX,
    f32::MIN,
    1e-40,
    -1e-45,
    f32::MIN_POSITIVE,
    0.0,
    -0.0,
    // With a larger difference a probability is below 1e-38. It counts as 0 in f32 but not in the f64 reference.
    40.0,
    -36.0,
];

/// The classes of a long tail count, although each is less than half a unit in the last place of the largest class's 1.
///
/// The sum is a little above 1 and is rounded at each addition. Equal terms are rounded in the same direction.
/// The fewest lanes (SwiftShader) add at about 30 points, which gives 17 units in the last place of 1.
#[test]
fn a_flat_tail_counts() {
    use wgpu_distill::Config;
    let config = Config {
        selection: Selection::Fixed(1.0),
        ..Config::default()
    };
    for (rows, classes) in [(64, 1000), (2, 32_000), (1, 151_936)] {
        let logits: Vec<f32> = (0..rows * classes)
            .map(|i| if i % classes == 7 { 0.0 } else { -17.0 })
            .collect();
        let labels = vec![7; rows];
        let batch = Batch::new(&logits, &logits, &labels, classes);
        let progress = Progress::new(1, 2);
        let want = reference::distill(&config, progress, &batch).expect("valid");
        for engine in engines() {
            let got = engine.run(&config, progress, &batch, Outputs::SUMMARY);
            let got = f64::from(got.expect("valid").summary.loss);
            let want = want.summary.loss;
            // Equal terms of a flat tail are rounded in the same direction.
            let tolerance = Tolerance {
                loss_absolute: 2e-6,
                ..Tolerance::F32
            };
            let about = format!("{rows} x {classes}, {}", engine.describe());
            assert_close(&about, got, want, tolerance.loss_of_sum(want, 1.0, 1.0));
        }
    }
}

/// A single class has probability 1 for every logit that is a number.
#[test]
fn one_class_of_any_value() {
    let pairs = || HARD.iter().flat_map(|s| HARD.iter().map(move |t| (*s, *t)));
    let student: Vec<f32> = pairs().map(|(s, _)| s).collect();
    let teacher: Vec<f32> = pairs().map(|(_, t)| t).collect();
    let labels = vec![0; student.len()];
    for storage in Storage::ALL {
        let stored = [&student, &teacher].map(|x| Stored::round(x, storage));
        for similarity in Similarity::ALL {
            for scope in [Scope::Row, Scope::Batch] {
                let shape = (labels.len(), 1);
                let mut case = cases::Case::of_shape(shape.0, 1, Kind::Huge, [storage; 3]);
                case.config.similarity = similarity;
                case.config.scope = scope;
                case.config.reduction = Reduction::None;
                let batch = Batch::new(stored[0].values(), stored[1].values(), &labels, 1);
                let about = format!("{similarity}, {scope:?}, {storage:?}");
                check(&about, &case, &batch);
            }
        }
    }
}

/// The first tile of a row has a logit so large that the distances of all others to it overflow in f32.
/// The others have probability 0, in later tiles too.
#[test]
fn a_huge_logit_spoils_no_later_block() {
    let classes = 5000;
    for (huge, temperature) in [(f32::MAX, 1.0), (1e30, 3e-9), (1e36, 0.5)] {
        let mut random = Random::new(8);
        let mut row = || -> Vec<f32> { (0..classes).map(|_| 2.0 * random.normal()).collect() };
        let (mut student, teacher) = (row(), row());
        let (mut other_teacher, other_student) = (row(), row());
        student[3] = huge;
        other_teacher[3] = huge;
        for similarity in Similarity::ALL {
            let mut case = cases::Case::of_shape(1, classes, Kind::Peaked, [Storage::F32; 3]);
            case.config.similarity = similarity;
            case.config.selection = Selection::Mean;
            case.config.student_temperature = temperature;
            let about = format!("{huge:e} at {temperature}, {similarity}");
            let batch = Batch::new(&student, &teacher, &[3], classes);
            check(&format!("{about}, student"), &case, &batch);
            case.config.student_temperature = 1.0;
            case.config.teacher_temperature = temperature;
            let batch = Batch::new(&other_student, &other_teacher, &[3], classes);
            check(&format!("{about}, teacher"), &case, &batch);
        }
    }
}

/// Any mixture of rows with extreme and usual values: each row matches the reference and no row affects another.
#[test]
fn hard_values_in_any_mixture() {
    let mut random = Random::new(3);
    // The last shape is longer than one tile of the CPU path and of most lane counts.
    for (rows, classes) in [(600, 2), (600, 5), (600, 16), (600, 33), (60, 1100)] {
        for similarity in Similarity::ALL {
            let mut draw = |hard: u32| -> Vec<f32> {
                let value = |i: usize| match random.next() % hard {
                    0 => {
                        // NaN and +inf decide a row's result, so only every fourth row has them.
                        let first = if (i / classes).is_multiple_of(4) {
                            0
                        } else {
                            2
                        };
                        HARD[first + random.next() as usize % (HARD.len() - first)]
                    }
                    _ => 2.0 * random.normal(),
                };
                (0..rows * classes).map(value).collect()
            };
            let (student, teacher) = (draw(4), draw(3));
            let labels: Vec<i32> = (0..rows).map(|row| (row * 7 % classes) as i32).collect();
            let mut case = cases::Case::of_shape(rows, classes, Kind::Peaked, [Storage::F32; 3]);
            case.config.similarity = similarity;
            case.config.reduction = Reduction::None;
            case.progress = Progress::new(1, 3);
            let batch = Batch::new(&student, &teacher, &labels, classes);
            check(&format!("{classes} classes, {similarity}"), &case, &batch);
        }
    }
}
