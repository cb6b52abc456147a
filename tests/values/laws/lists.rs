//! Teachers that are lists of classes: a list of every class is a row of logits, the order of a list has no meaning, and the gradient is the
//! slope of the reference's loss.

use wgpu_distill::{
    Batch, Config, Divergence, Engine, HardTemperature, Logits, Outputs, Progress, Reduction,
    Selection, Similarity, TeacherTail, TssrGradient, reference,
};

use super::agree::{TOLERANCE, close};
use super::drawn::engines;
use crate::cases::compare::{Outcome, further_weights};
use crate::cases::inputs::{Random, log_probability};
use crate::cases::is_full;
use crate::cases::tolerance::{assert_close, gradient_weight, loss_factor};

/// The CPU path; with every GPU at full depth, since lists have kernels of their own for each loss.
fn engines_at_depth() -> Vec<Engine> {
    let at_depth = |engine: &Engine| is_full() || !matches!(engine, Engine::Gpu(_));
    engines().into_iter().filter(at_depth).collect()
}

const ROWS: usize = 6;
const TAILS: [TeacherTail; 2] = [TeacherTail::Ghost, TeacherTail::Renormalized];

fn progress() -> Progress {
    Progress::new(3, 8)
}

/// Rows of logits, and their teacher's log-probabilities of every class, in order.
struct Rows {
    classes: usize,
    student: Vec<f32>,
    teacher: Vec<f32>,
    labels: Vec<i32>,
}

impl Rows {
    fn new(classes: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Multiples of 1/8, so that a step of a logit is exact in f32.
        let mut logit = || (8.0 * random.normal()).round() / 8.0;
        let student = (0..ROWS * classes).map(|_| logit()).collect();
        let logits: Vec<f32> = (0..ROWS * classes).map(|_| logit()).collect();
        let of_row =
            |row: &[f32]| -> Vec<f32> { (0..classes).map(|i| log_probability(row, i)).collect() };
        Self {
            classes,
            student,
            teacher: logits.chunks(classes).flat_map(of_row).collect(),
            labels: (0..ROWS as i32)
                .map(|row| 7 * row % classes as i32)
                .collect(),
        }
    }

    /// The likeliest `k` classes of each row, in an order that depends on the seed.
    fn list(&self, k: usize, seed: u64) -> (Vec<i32>, Vec<f32>) {
        let mut random = Random::new(seed);
        let (mut ids, mut values) = (Vec::new(), Vec::new());
        for row in self.teacher.chunks(self.classes) {
            let mut order: Vec<usize> = (0..self.classes).collect();
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
            order.truncate(k);
            order.sort_by_cached_key(|_| random.next());
            ids.extend(order.iter().map(|class| *class as i32));
            values.extend(order.iter().map(|class| row[*class]));
        }
        (ids, values)
    }

    fn of_list<'a>(&'a self, (ids, values): &'a (Vec<i32>, Vec<f32>)) -> Batch<'a> {
        Batch::top_k(&self.student, values, ids, &self.labels, self.classes)
    }

    fn of_logits(&self) -> Batch<'_> {
        Batch::new(&self.student, &self.teacher, &self.labels, self.classes)
    }
}

/// The losses that an engine runs. Kernels take long to compile, so that a GPU has some of them.
fn losses_of(engine: &Engine, tail: TeacherTail) -> Vec<Config> {
    let step = match engine {
        Engine::Gpu(_) if !is_full() => 5,
        _ => 1,
    };
    losses(tail).into_iter().step_by(step).collect()
}

/// The divergences that take a list, each with a similarity.
fn losses(tail: TeacherTail) -> Vec<Config> {
    let takes_lists = |d: &Divergence| {
        use Divergence::{Dkd, Nkd, Wsld};
        !d.is_sampled() && !matches!(d, Dkd { .. } | Nkd { .. } | Wsld)
    };
    let all = Divergence::ALL.into_iter().filter(takes_lists);
    let config = |(i, divergence)| Config {
        divergence,
        similarity: Similarity::ALL[i % Similarity::ALL.len()],
        selection: Selection::Mean,
        reduction: Reduction::Sum,
        student_temperature: 2.0,
        teacher_tail: tail,
        ..Config::default()
    };
    all.enumerate().map(config).collect()
}

fn run(engine: &Engine, config: &Config, batch: &Batch<'_>) -> Outcome {
    let about = format!("{}, {}", config.divergence, engine.describe());
    let done = engine.run(config, progress(), batch, Outputs::ALL);
    let done = done.unwrap_or_else(|e| panic!("{about}: {e}"));
    Outcome {
        summary: done.summary,
        rows: done.rows.clone(),
        metrics: done.metrics.clone(),
        gradient: done.into_grad_student_logits(),
    }
}

/// Fails unless rows and gradients are equal but for rounding.
fn assert_same(about: &str, config: &Config, batch: &Batch<'_>, got: &Outcome, want: &Outcome) {
    let done = reference::distill(config, progress(), batch).expect("a valid batch");
    let further = further_weights(config, batch, &done);
    let classes = got.gradient.len() / got.rows.len();
    let gradients = got.gradient.chunks(classes);
    let gradients = gradients.zip(want.gradient.chunks(classes));
    let rows = got.rows.iter().zip(&want.rows).zip(gradients);
    for (row, ((g, w), gradients)) in rows.enumerate() {
        let loss = TOLERANCE.loss(w.loss.into(), loss_factor(config));
        let weight = gradient_weight(config, ROWS as u32) + further.get(row).unwrap_or(&0.0);
        let about = format!("{about}: row {row}");
        assert!(w.loss.is_finite(), "{about}: {w:?}");
        assert_close(
            &format!("{about}, loss"),
            g.loss.into(),
            w.loss.into(),
            loss,
        );
        for (name, g, w) in [("kdr", g.kdr, w.kdr), ("tssr", g.tssr, w.tssr)] {
            assert_close(
                &format!("{about}, {name}"),
                g.into(),
                w.into(),
                TOLERANCE.unit,
            );
        }
        let (g, w) = gradients;
        let largest = w.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
        let tolerance = TOLERANCE.gradient(largest, weight);
        for (class, (g, w)) in g.iter().zip(w).enumerate() {
            let about = format!("{about}, gradient of class {class}");
            assert_close(&about, (*g).into(), (*w).into(), tolerance);
        }
    }
}

#[test]
fn a_list_of_every_class_is_a_row_of_logits() {
    for (classes, seed) in [(37, 1), (260, 2)] {
        let rows = Rows::new(classes, seed);
        let list = rows.list(classes, seed);
        for engine in engines_at_depth() {
            for tail in TAILS {
                for mut config in losses_of(&engine, tail) {
                    if tail == TeacherTail::Renormalized {
                        config.teacher_temperature = 1.5;
                    }
                    let batch = rows.of_list(&list);
                    let got = run(&engine, &config, &batch);
                    let want = run(&engine, &config, &rows.of_logits());
                    let about = format!("{tail:?}, {}, {classes} classes", config.divergence);
                    let about = format!("{about}, {}", engine.describe());
                    assert_same(&about, &config, &batch, &got, &want);
                }
            }
        }
    }
}

#[test]
fn the_order_of_a_list_has_no_meaning() {
    for (classes, k, seed) in [(37, 8, 4), (1003, 130, 5)] {
        let rows = Rows::new(classes, seed);
        let [list, other] = [seed, seed + 100].map(|order| rows.list(k, order));
        assert_ne!(list.0, other.0, "another order");
        for engine in engines_at_depth() {
            for tail in TAILS {
                for config in losses_of(&engine, tail) {
                    if is_infinite(&config) {
                        continue;
                    }
                    let batch = rows.of_list(&list);
                    let want = run(&engine, &config, &batch);
                    let got = run(&engine, &config, &rows.of_list(&other));
                    let about = format!("{tail:?}, {}, {k} of {classes}", config.divergence);
                    let about = format!("{about}, {}", engine.describe());
                    assert_same(&about, &config, &batch, &got, &want);
                }
            }
        }
    }
}

/// Returns true if the student's tail, which a renormalised teacher does not have, makes the loss infinite.
fn is_infinite(config: &Config) -> bool {
    use Divergence::{KlSum, ReverseKl};
    let reverse = matches!(config.divergence, ReverseKl | KlSum { .. });
    reverse && config.teacher_tail == TeacherTail::Renormalized
}

/// A gradient passes neither through the share of `KlTv` nor the mixture of `Taid`, and `p = q` is a kink of the others.
fn has_slopes(config: &Config) -> bool {
    use Divergence::{KlTv, NegLogOverlap, Taid, TotalVariation};
    let kinks = matches!(
        config.divergence,
        KlTv { .. } | Taid { .. } | TotalVariation | NegLogOverlap
    );
    !kinks && !is_infinite(config)
}

#[test]
fn the_gradient_is_the_slope_of_the_loss_of_a_list() {
    const MOVE: f32 = 1.0 / 4096.0;
    let mut checked = 0;
    for (classes, k, seed) in [(7, 3, 7), (9, 1, 8), (6, 6, 9)] {
        let rows = Rows::new(classes, seed);
        let list = rows.list(k, seed);
        for tail in TAILS {
            for (i, mut config) in losses(tail).into_iter().enumerate() {
                if !has_slopes(&config) {
                    continue;
                }
                config.hard_temperature = HardTemperature::Own(1.5);
                config.label_smoothing = 0.125;
                config.z_loss = 0.03125;
                if i % 2 == 0 {
                    config.tssr_gradient = TssrGradient::Attached;
                    config.similarity = match config.divergence {
                        Divergence::SoftCrossEntropy => Similarity::Bhattacharyya,
                        _ => Similarity::ExpNegKl,
                    };
                }
                let batch = rows.of_list(&list);
                let done = reference::distill(&config, progress(), &batch).expect("a valid batch");
                let loss = |at: usize, by: f32| {
                    let row = at / classes;
                    let mut moved = rows.student.clone();
                    moved[at] += by;
                    let batch = Batch {
                        student_logits: Logits::new(&moved, classes),
                        ..batch
                    };
                    match config.tssr_gradient {
                        TssrGradient::Attached => {
                            let done = reference::distill(&config, progress(), &batch);
                            done.expect("a valid batch").rows[row].loss
                        }
                        _ => reference::row_loss(&config, &batch, row, done.rows[row].tssr),
                    }
                };
                for (at, gradient) in done.grad_student_logits.iter().enumerate() {
                    let slope = (loss(at, MOVE) - loss(at, -MOVE)) / (2.0 * f64::from(MOVE));
                    let about = format!("{tail:?}, {}, {k} of {classes}", config.divergence);
                    let allowed = 1e-6 * (1.0 + done.rows[at / classes].loss.abs());
                    if let Err(why) = close(&about, *gradient, slope, allowed) {
                        panic!("{why}, element {at}");
                    }
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 500, "only {checked} elements");
}
