//! Issues that users of other distillation losses reported: one test for each, named after the symptom, with the thread in its comment.

use crate::{buffers, cases};
mod device;

use crate::cases::compare::{self, Outcome};
use crate::cases::inputs::{Kind, Random, Stored};
use crate::cases::tolerance::assert_close;
use crate::cases::{Case, Tolerance};
use crate::steps::Steps;
use wgpu_distill::{
    Batch, Config, Engine, Error, Logits, Outputs, Progress, Reduction, Selection, Similarity,
    Storage, TeacherClasses, reference,
};

const PROGRESS: Progress = Progress { step: 1, total: 4 };

fn engines() -> Vec<Engine> {
    let gpu = buffers::gpu().map(Engine::Gpu);
    [Engine::cpu()].into_iter().chain(gpu).collect()
}

fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| 2.0 * random.normal()).collect()
}

fn run(engine: &Engine, config: &Config, batch: &Batch<'_>) -> Outcome {
    let done = engine.run(config, PROGRESS, batch, Outputs::ALL);
    let done = done.unwrap_or_else(|e| panic!("{}: {e}", engine.describe()));
    Outcome {
        summary: done.summary,
        rows: done.rows.clone(),
        gradient: done.into_grad_student_logits(),
        metrics: Vec::new(),
    }
}

/// Fails unless every engine matches the reference.
fn check(config: Config, batch: &Batch<'_>) {
    let storage = [batch.student_logits, batch.teacher_logits].map(|l| l.values.storage());
    let (rows, classes) = (batch.rows(), batch.classes());
    let mut case = Case::of_shape(
        rows,
        classes,
        Kind::Normal,
        [storage[0], storage[1], Storage::F32],
    );
    (case.config, case.progress) = (config, PROGRESS);
    let want = reference::distill(&config, PROGRESS, batch).expect("valid");
    for engine in engines() {
        if let Err(why) = compare::check(&case, &want, &run(&engine, &config, batch)) {
            panic!("{}: {why}", engine.describe());
        }
    }
}

fn close(about: &str, got: f32, want: f32) {
    let (got, want) = (f64::from(got), f64::from(want));
    let tolerance = Tolerance::F32.of_two().loss_of_sum(want, 1.0, 1.0);
    assert_close(about, got, want, tolerance);
}

/// Compares two gradients of one engine, which differ by the rounding of `p` and `y` alone. `weight` is the factor of `p - y`.
fn close_gradients(about: &str, got: &[f32], want: &[f32], weight: f64) {
    assert_eq!(got.len(), want.len(), "{about}");
    let tolerance = Tolerance::F32.of_two().gradient(0.0, weight);
    for (got, want) in got.iter().zip(want) {
        assert_close(about, f64::from(*got), f64::from(*want), tolerance);
    }
}

/// Liger #441: the teacher ran earlier. Its logits come from a file, with another type and stride than the student's.
#[test]
fn teacher_logits_from_a_file_will_do() {
    let (rows, classes) = (5, 211);
    let student = normal(rows * classes, 1);
    let labels = [0, 210, 7, 9, 100];
    for storage in [Storage::F16, Storage::Bf16] {
        let saved = Stored::round(&normal(rows * 256, 2), storage);
        let batch = Batch {
            student_logits: Logits::new(&student, classes),
            teacher_logits: Logits::new(saved.values(), classes).with_row_stride(256),
            labels: &labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        check(Config::default(), &batch);
    }
}

/// Liger #1453: the Jensen-Shannon divergence was NaN where probabilities underflow.
#[test]
fn jensen_shannon_survives_underflow() {
    let classes = 64;
    let mut student = vec![-200.0; 2 * classes];
    let mut teacher = student.clone();
    // The peak is at the same class in the first row and at different classes in the second.
    (student[3], teacher[3]) = (200.0, 200.0);
    (student[classes + 5], teacher[classes + 9]) = (1e4, 1e4);
    let config = Config {
        similarity: Similarity::JensenShannon,
        selection: Selection::Kdr,
        student_temperature: 0.5,
        ..Config::default()
    };
    let batch = Batch::new(&student, &teacher, &[3, 9], classes);
    check(config, &batch);
    for engine in engines() {
        let got = run(&engine, &config, &batch);
        assert_eq!(
            [got.rows[0].kdr, got.rows[1].kdr],
            [1.0, 0.0],
            "{}",
            engine.describe()
        );
        assert!(
            got.gradient.iter().all(|g| g.is_finite()),
            "{}",
            engine.describe()
        );
    }
}

/// Liger #1432: bf16 gradients were off by 4 to 23 %. Rounding alone is 0.4 %.
#[test]
fn bf16_gradients_are_off_by_rounding_alone() {
    let (rows, classes) = (8, 1000);
    let [student, teacher] =
        [3, 4].map(|seed| Stored::round(&normal(rows * classes, seed), Storage::Bf16));
    let labels: Vec<i32> = (0..rows as i32).map(|row| 90 * row).collect();
    let batch = Batch::new(student.values(), teacher.values(), &labels, classes);
    let config = Config::default();
    let want = reference::distill(&config, PROGRESS, &batch)
        .expect("valid")
        .grad_student_logits;
    let outputs = Outputs {
        rows: false,
        gradient: Some(Storage::Bf16),
        metrics: false,
    };
    for engine in engines() {
        let got = engine
            .run(&config, PROGRESS, &batch, outputs)
            .expect("valid")
            .into_grad_student_logits();
        let size: f64 = want.iter().map(|w| w * w).sum();
        let off: f64 = got
            .iter()
            .zip(&want)
            .map(|(g, w)| (f64::from(*g) - w).powi(2))
            .sum();
        let share = (off / size).sqrt();
        assert!(share < 0.004, "{}: {share}", engine.describe());
    }
}

/// Liger PR #974: `ignore_index` was accepted and had no effect.
#[test]
fn ignored_rows_are_ignored() {
    let classes = 40;
    let (mut student, teacher) = (normal(4 * classes, 5), normal(4 * classes, 6));
    student[classes..2 * classes].fill(f32::NAN);
    let config = Config {
        ignore_index: 7,
        ..Config::default()
    };
    let labels = [0, 7, 39, 7];
    let batch = Batch::new(&student, &teacher, &labels, classes);
    check(config, &batch);
    for engine in engines() {
        let got = run(&engine, &config, &batch);
        let name = engine.describe();
        for row in [1, 3] {
            assert_eq!(got.rows[row].loss, 0.0, "{name}");
            assert!(
                got.gradient[row * classes..(row + 1) * classes]
                    .iter()
                    .all(|g| *g == 0.0),
                "{name}"
            );
        }
        // The mean divides by the two valid rows, not by all four.
        close(
            &name,
            got.summary.loss,
            (got.rows[0].loss + got.rows[2].loss) / 2.0,
        );
    }
}

/// Liger #328: callers that need only the metrics should not compute a gradient. Here the metrics without a gradient are the same.
#[test]
fn metrics_come_without_a_gradient() {
    let (rows, classes) = (6, 300);
    let (student, teacher) = (normal(rows * classes, 9), normal(rows * classes, 10));
    let labels = [1, 2, 3, 4, 5, 299];
    let batch = Batch::new(&student, &teacher, &labels, classes);
    let config = Config::default();
    let want = reference::observe(&config, &batch).expect("valid");
    for engine in engines() {
        let name = engine.describe();
        let alone = engine
            .run(&config, PROGRESS, &batch, Outputs::SUMMARY)
            .expect("valid");
        assert!(alone.gradient.is_none() && alone.rows.is_empty(), "{name}");
        close(
            &name,
            alone.summary.loss,
            run(&engine, &config, &batch).summary.loss,
        );
        let stats = engine.observe(&config, &batch).expect("valid");
        for (got, want) in stats.iter().zip(&want) {
            close(&name, got.kl() as f32, want.kl as f32);
            close(
                &name,
                got.teacher_entropy() as f32,
                want.teacher_entropy as f32,
            );
            close(
                &name,
                got.student_lse(&config) as f32,
                want.student_lse as f32,
            );
        }
    }
}

/// Liger PR #634, TRL #2215: two model sizes of one family have vocabularies of 151,936 and 152,064.
///
/// The call is refused, or uses the common prefix on request.
#[test]
fn vocabularies_of_different_size_are_refused_or_cut() {
    let (small, large) = (151_936, 152_064);
    let (student, teacher) = (normal(small, 11), normal(large, 12));
    let with = |teacher_logits| Batch {
        student_logits: Logits::new(&student, small),
        teacher_logits,
        labels: &[151_935],
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    for engine in engines() {
        let both = with(Logits::new(&teacher, large));
        let refused = engine.run(&Config::default(), PROGRESS, &both, Outputs::SUMMARY);
        let mismatch = Error::ShapeMismatch {
            student: small,
            teacher: large,
        };
        assert_eq!(refused.err(), Some(mismatch), "{}", engine.describe());
        let config = Config {
            teacher_classes: TeacherClasses::CommonPrefix,
            ..Config::default()
        };
        let cut = with(Logits::new(&teacher[..small], small));
        let (got, want) = (run(&engine, &config, &both), run(&engine, &config, &cut));
        close(&engine.describe(), got.summary.loss, want.summary.loss);
        close(&engine.describe(), got.summary.kdr, want.summary.kdr);
        close_gradients(&engine.describe(), &got.gradient, &want.gradient, 1.0);
    }
}

/// TRL #4719: the mean of the micro-batches' means is not the mean of the batch if the numbers of valid rows differ.
#[test]
fn gradient_accumulation_is_the_whole_batch() {
    let (rows, classes) = (8, 60);
    let (student, teacher) = (normal(rows * classes, 13), normal(rows * classes, 14));
    let labels = [1, -100, -100, -100, 5, 6, 7, -100];
    let config = Config::default();
    let over = Config {
        reduction: Reduction::SumOver(4.0),
        ..config
    };
    for engine in engines() {
        let whole = run(
            &engine,
            &config,
            &Batch::new(&student, &teacher, &labels, classes),
        );
        let (mut loss, mut gradient) = (0.0, Vec::new());
        for (from, to) in [(0, 2), (2, 5), (5, 8)] {
            let part = |of: &[f32]| of[from * classes..to * classes].to_vec();
            let (s, t) = (part(&student), part(&teacher));
            let got = run(
                &engine,
                &over,
                &Batch::new(&s, &t, &labels[from..to], classes),
            );
            loss += got.summary.loss;
            gradient.extend(got.gradient);
        }
        close(&engine.describe(), loss, whole.summary.loss);
        close_gradients(&engine.describe(), &gradient, &whole.gradient, 0.25);
    }
}

/// TRL PR #5731: the fused path silently computed another loss than the plain one.
///
/// Here the plain path is three calls. Both paths match the reference.
#[test]
fn the_fused_loss_is_the_plain_one() {
    let (rows, classes) = (4, 90);
    let (student, teacher) = (normal(rows * classes, 15), normal(rows * classes, 16));
    let batch = Batch::new(&student, &teacher, &[0, 89, 4, 5], classes);
    for similarity in Similarity::ALL {
        let config = Config {
            similarity,
            selection: Selection::Mean,
            reduction: Reduction::None,
            ..Config::default()
        };
        check(config, &batch);
        for engine in engines() {
            let stats = engine.observe(&config, &batch).expect("valid");
            let plain = engine
                .decide(&config, PROGRESS, &stats, classes)
                .expect("valid");
            let gradient = engine.apply(&config, &batch, &plain).expect("valid");
            let fused = run(&engine, &config, &batch);
            for (plain, fused) in plain.iter().zip(&fused.rows) {
                close(&engine.describe(), fused.loss, plain.result.loss);
            }
            close_gradients(&engine.describe(), &gradient, &fused.gradient, 1.0);
        }
    }
}

/// TRL PR #5594: a teacher with classes masked by `-inf` made the gradient NaN.
#[test]
fn a_teacher_that_masks_classes_leaves_the_gradient_finite() {
    let (rows, classes) = (3, 70);
    let (student, mut teacher) = (normal(rows * classes, 17), normal(rows * classes, 18));
    teacher
        .iter_mut()
        .step_by(2)
        .for_each(|t| *t = f32::NEG_INFINITY);
    let batch = Batch::new(&student, &teacher, &[0, 1, 69], classes);
    for similarity in Similarity::ALL {
        let config = Config {
            similarity,
            ..Config::default()
        };
        check(config, &batch);
        for engine in engines() {
            let got = run(&engine, &config, &batch);
            assert!(
                got.gradient.iter().all(|g| g.is_finite()),
                "{}",
                engine.describe()
            );
        }
    }
}

/// TransformerEngine #2734: the code assumed contiguous rows. A slice of wider rows gives the results of its rows, for any gap content.
#[test]
fn a_slice_of_wider_rows_is_its_rows() {
    let (rows, classes, stride) = (5, 37, 64);
    let (close_student, close_teacher) = (normal(rows * classes, 19), normal(rows * classes, 20));
    let wide = |values: &[f32]| cases::inputs::spread(values, classes, stride, 0);
    let (student, teacher) = (wide(&close_student), wide(&close_teacher));
    let batch = Batch {
        student_logits: Logits::new(&student, classes).with_row_stride(stride),
        teacher_logits: Logits::new(&teacher, classes).with_row_stride(stride),
        labels: &[0, 36, 2, 3, 4],
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    check(Config::default(), &batch);
    let same = Batch::new(&close_student, &close_teacher, batch.labels, classes);
    for engine in engines() {
        let (got, want) = (
            run(&engine, &Config::default(), &batch),
            run(&engine, &Config::default(), &same),
        );
        close(&engine.describe(), got.summary.loss, want.summary.loss);
    }
}

/// mlx PR #4188, optax PR #1792: a large common offset gave a wrong loss.
#[test]
fn a_large_common_offset_changes_nothing() {
    let (rows, classes) = (3, 80);
    let grid = |seed| {
        normal(rows * classes, seed)
            .iter()
            .map(|x| (x * 16.0).round() / 16.0)
            .collect::<Vec<f32>>()
    };
    let (student, teacher) = (grid(21), grid(22));
    let labels = [0, 79, 5];
    for engine in engines() {
        let want = run(
            &engine,
            &Config::default(),
            &Batch::new(&student, &teacher, &labels, classes),
        );
        for offset in [-1e5f32, 1e4, 5e5] {
            let moved = |x: &[f32]| x.iter().map(|x| x + offset).collect::<Vec<f32>>();
            let (s, t) = (moved(&student), moved(&teacher));
            let got = run(
                &engine,
                &Config::default(),
                &Batch::new(&s, &t, &labels, classes),
            );
            assert_eq!(
                got.summary.loss.to_bits(),
                want.summary.loss.to_bits(),
                "{}",
                engine.describe()
            );
            assert_eq!(got.gradient, want.gradient, "{}", engine.describe());
        }
    }
}
