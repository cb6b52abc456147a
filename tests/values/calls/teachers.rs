//! Several teachers, rows without a teacher and rows without a label, as docs/LOSSES.md, section 12, documents them: calls that add to one
//! gradient.

use wgpu_distill::{
    Batch, Config, Divergence, Engine, GradWrite, GradientMut, OutputsMut, Progress, Reduction,
    Selection, reference,
};

use super::engines;
use crate::cases::inputs::{self, Kind};
use crate::cases::tolerance::assert_close;

const ROWS: usize = 12;
const CLASSES: usize = 45;
const IGNORED: i32 = -100;

/// A student and three teachers.
fn logits() -> (Vec<f32>, [Vec<f32>; 3]) {
    let teacher = |seed| inputs::logits(Kind::Normal, ROWS, CLASSES, CLASSES, seed).1;
    let (student, first) = inputs::logits(Kind::Normal, ROWS, CLASSES, CLASSES, 1);
    (student, [first, teacher(2), teacher(3)])
}

fn labels() -> Vec<i32> {
    let label = |row: usize| (7 * row % CLASSES) as i32;
    (0..ROWS).map(label).collect()
}

/// One of the calls that add up.
struct Call<'a> {
    config: Config,
    batch: Batch<'a>,
}

/// The sum of the losses, and the accumulated gradient.
fn added_up(engine: &Engine, calls: &[Call<'_>]) -> (f64, Vec<f32>) {
    let mut gradient = vec![0.0f32; ROWS * CLASSES];
    let mut loss = 0.0;
    for Call { config, batch } in calls {
        let config = Config {
            grad_write: GradWrite::Accumulate,
            ..*config
        };
        let outputs = OutputsMut::from(GradientMut::new(&mut gradient, CLASSES));
        let done = engine.run_into(&config, Progress::NONE, batch, outputs);
        let done = done.unwrap_or_else(|e| panic!("{}: {e}", engine.describe()));
        loss += f64::from(done.loss);
    }
    (loss, gradient)
}

/// Loss and gradient by the reference, each row with the configuration and the inputs that `of` gives, divided by all rows.
fn by_rows<'a>(of: impl Fn(usize) -> (Config, Batch<'a>)) -> (f64, Vec<f64>) {
    let (mut loss, mut gradient) = (0.0, Vec::new());
    for row in 0..ROWS {
        let (config, batch) = of(row);
        let config = Config {
            reduction: Reduction::SumOver(ROWS as f32),
            ..config
        };
        let done = reference::distill(&config, Progress::NONE, &batch).expect("valid");
        loss += done.rows[row].loss / ROWS as f64;
        gradient.extend(&done.grad_student_logits[row * CLASSES..(row + 1) * CLASSES]);
    }
    (loss, gradient)
}

fn assert_equal(about: &str, got: &(f64, Vec<f32>), want: &(f64, Vec<f64>)) {
    assert_close(
        &format!("{about}, loss"),
        got.0,
        want.0,
        4e-6 * (1.0 + want.0.abs()),
    );
    let pairs = got.1.iter().zip(&want.1);
    for (at, (g, w)) in pairs.enumerate() {
        assert_close(&format!("{about}, element {at}"), (*g).into(), *w, 1e-6);
    }
}

fn share(share: f32, divergence: Divergence) -> Config {
    Config {
        selection: Selection::Fixed(share),
        divergence,
        student_temperature: 2.0,
        teacher_temperature: 2.0,
        ..Config::default()
    }
}

#[test]
fn weighted_teachers_add_up_with_one_label_part() {
    let (student, teachers) = logits();
    let labels = labels();
    let weights = [0.5f32, 0.375, 0.125];
    let batch = |k: usize| Batch::new(&student, &teachers[k], &labels, CLASSES);
    for divergence in [
        Divergence::SoftCrossEntropy,
        Divergence::ReverseKl,
        Divergence::Jsd { beta: 0.25 },
        Divergence::TotalVariation,
    ] {
        let parts = |label| {
            let config = share(label, divergence);
            (0..3).map(move |k| {
                reference::distill(&config, Progress::NONE, &batch(k)).expect("valid")
            })
        };
        // The label's part, and the teachers' parts times their weights.
        let mut want = (0.0, vec![0.0; ROWS * CLASSES]);
        let hard = parts(1.0).take(1).map(|done| (0.25, done));
        let soft = weights.iter().zip(parts(0.0));
        let soft = soft.map(|(weight, done)| (0.75 * f64::from(*weight), done));
        for (factor, done) in hard.chain(soft) {
            want.0 += factor * done.summary.loss;
            let sums = want.1.iter_mut().zip(&done.grad_student_logits);
            sums.for_each(|(sum, g)| *sum += factor * g);
        }
        for engine in engines() {
            let call = |k: usize| Call {
                config: Config {
                    soft_weight: weights[k],
                    hard_weight: if k == 0 { 1.0 } else { 0.0 },
                    ..share(0.25, divergence)
                },
                batch: batch(k),
            };
            let got = added_up(&engine, &[call(0), call(1), call(2)]);
            let about = format!("{divergence}, {}", engine.describe());
            assert_equal(&about, &got, &want);
        }
    }
}

#[test]
fn weighted_teachers_have_the_gradient_of_their_mean() {
    let (student, teachers) = logits();
    let labels = labels();
    let weights = [0.5f32, 0.375, 0.125];
    let of_teacher = |k: usize| {
        let logits = wgpu_distill::Logits::new(&teachers[k], CLASSES);
        reference::softmax(&logits, ROWS, 2.0).expect("valid")
    };
    let probabilities = [0, 1, 2].map(of_teacher);
    let mean = |i: usize| {
        let of = |k: usize| f64::from(weights[k]) * probabilities[k][i];
        // At the temperature 2.
        (2.0 * (of(0) + of(1) + of(2)).ln()) as f32
    };
    let mean: Vec<f32> = (0..ROWS * CLASSES).map(mean).collect();
    let batch = Batch::new(&student, &mean, &labels, CLASSES);
    let config = share(0.0, Divergence::ForwardKl);
    let want = reference::distill(&config, Progress::NONE, &batch).expect("valid");
    for engine in engines() {
        let calls = [0, 1, 2].map(|k| Call {
            config: Config {
                soft_weight: weights[k],
                ..config
            },
            batch: Batch::new(&student, &teachers[k], &labels, CLASSES),
        });
        let (_, gradient) = added_up(&engine, &calls);
        for (g, w) in gradient.iter().zip(&want.grad_student_logits) {
            assert_close(&engine.describe(), (*g).into(), *w, 1e-6);
        }
    }
}

/// The labels of the rows of a group; the others are ignored.
fn labels_of(group: usize, group_of: impl Fn(usize) -> usize) -> Vec<i32> {
    let own = |(row, label)| match group_of(row) == group {
        true => label,
        false => IGNORED,
    };
    labels().into_iter().enumerate().map(own).collect()
}

#[test]
fn an_index_per_row_chooses_the_teacher() {
    let (student, mut teachers) = logits();
    let all = labels();
    let index = |row: usize| [2, 0, 1, 1, 0][row % 5];
    // No call reads the teacher of a row that belongs to another one.
    for (k, teacher) in teachers.iter_mut().enumerate() {
        for (row, logits) in teacher.chunks_mut(CLASSES).enumerate() {
            if index(row) != k {
                logits.fill(f32::NAN);
            }
        }
    }
    let own_labels = [0, 1, 2].map(|k| labels_of(k, index));
    for divergence in [
        Divergence::SoftCrossEntropy,
        Divergence::Jsd { beta: 0.25 },
        Divergence::Dkd {
            alpha: 1.0,
            beta: 8.0,
        },
    ] {
        // Each row has its own KDR.
        let config = Config {
            selection: Selection::Kdr,
            ..share(0.0, divergence)
        };
        let want = by_rows(|row| {
            let teacher = &teachers[index(row)];
            (config, Batch::new(&student, teacher, &all, CLASSES))
        });
        for engine in engines() {
            let calls = [0, 1, 2].map(|k| Call {
                config: Config {
                    reduction: Reduction::SumOver(ROWS as f32),
                    ..config
                },
                batch: Batch::new(&student, &teachers[k], &own_labels[k], CLASSES),
            });
            let got = added_up(&engine, &calls);
            let about = format!("{divergence}, {}", engine.describe());
            assert_equal(&about, &got, &want);
        }
    }
}

#[test]
fn rows_may_lack_a_label_or_a_teacher() {
    let (student, [mut teacher, ..]) = logits();
    let [both, teacher_only, label_only] = [0, 1, 2];
    let group = |row: usize| [both, teacher_only, label_only][row % 3];
    for (row, logits) in teacher.chunks_mut(CLASSES).enumerate() {
        if group(row) == label_only {
            logits.fill(0.0);
        }
    }
    let all = labels();
    let mut own_labels = [both, teacher_only, label_only].map(|g| labels_of(g, group));
    // A row without a label has any class for it. It has no share in the loss.
    let other: Vec<i32> = own_labels[teacher_only]
        .iter()
        .map(|label| if *label == IGNORED { IGNORED } else { 0 })
        .collect();
    own_labels[teacher_only] = other;
    for divergence in [Divergence::SoftCrossEntropy, Divergence::ReverseKl] {
        let config = |group| match group {
            1 => share(0.0, divergence),
            2 => share(1.0, divergence),
            _ => share(0.25, divergence),
        };
        let batch = Batch::new(&student, &teacher, &all, CLASSES);
        let want = by_rows(|row| (config(group(row)), batch));
        for engine in engines() {
            let calls = [both, teacher_only, label_only].map(|g| Call {
                config: Config {
                    reduction: Reduction::SumOver(ROWS as f32),
                    ..config(g)
                },
                batch: Batch::new(&student, &teacher, &own_labels[g], CLASSES),
            });
            let got = added_up(&engine, &calls);
            let about = format!("{divergence}, {}", engine.describe());
            assert_equal(&about, &got, &want);
        }
    }
}
