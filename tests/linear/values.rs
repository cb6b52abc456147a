//! Every divergence, teacher, scope and reduction against the reference; a finite difference of one weight.

use wgpu_distill::{
    Config, Divergence, GradWrite, HardTemperature, Reduction, Scope, Selection, Similarity,
    TeacherClasses, TeacherTail, TemperatureScaling,
};

use crate::problem::{Kind, Problem};
use crate::report;

/// Runs a problem in one chunk and in several.
fn check(about: &str, problem: &Problem, config: &Config) {
    let truth = problem.truth(config);
    for chunk_rows in [usize::MAX / problem.row_bytes(), 16, 5] {
        let about = format!("{about}, chunks of {chunk_rows}");
        let done = problem.run(&problem.loss(chunk_rows), config, f32::NAN);
        problem.check(&about, config, &truth, &done, 0.0);
    }
}

fn distilling(divergence: Divergence) -> Config {
    Config {
        divergence,
        student_temperature: 2.0,
        teacher_temperature: 2.0,
        temperature_scaling: TemperatureScaling::Squared,
        hard_temperature: HardTemperature::Own(1.0),
        ..Config::default()
    }
}

#[test]
fn every_divergence_with_every_teacher() {
    let mut checked = 0;
    for divergence in Divergence::ALL {
        let plain = distilling(divergence);
        if divergence.is_sampled() {
            let config = Config {
                selection: Selection::Fixed(0.25),
                teacher_temperature: 1.0,
                ..plain
            };
            let problem = Problem::new(53, [24, 17], [70, 70], Kind::Sampled);
            check(&format!("{divergence}, sampled"), &problem, &config);
            checked += 1;
            continue;
        }
        for kind in [Kind::Linear, Kind::Logits] {
            let problem = Problem::new(53, [24, 17], [70, 70], kind);
            check(&format!("{divergence}, {kind:?}"), &problem, &plain);
            checked += 1;
        }
        let apart = [
            Divergence::Dkd {
                alpha: 1.0,
                beta: 8.0,
            },
            Divergence::Nkd { gamma: 1.5 },
            Divergence::Wsld,
        ];
        // Divergences that need the teacher's probability of the label take no list.
        if apart.iter().any(|d| d.name() == divergence.name()) {
            continue;
        }
        for tail in [TeacherTail::Ghost, TeacherTail::Renormalized] {
            let config = Config {
                teacher_temperature: 1.0,
                teacher_tail: tail,
                ..plain
            };
            let problem = Problem::new(53, [24, 17], [70, 70], Kind::TopK(6));
            check(&format!("{divergence}, {tail:?}"), &problem, &config);
            checked += 1;
        }
    }
    assert!(checked > 3 * 12, "{checked}");
    report::ran(&format!(
        "linear: {checked} pairs of divergence and teacher"
    ));
}

#[test]
fn every_scope_and_reduction() {
    let mut problem = Problem::new(45, [24, 17], [70, 70], Kind::Linear);
    let weights = (0..45).map(|row| [1.0, -0.5, 2.0, 0.25][row % 4]);
    for row_weights in [None, Some(weights.collect::<Vec<f32>>())] {
        problem.row_weights = row_weights;
        for scope in [Scope::Row, Scope::Batch, Scope::Given(0.375)] {
            for reduction in [
                Reduction::Mean,
                Reduction::Sum,
                Reduction::None,
                Reduction::SumOver(7.0),
            ] {
                for similarity in [Similarity::Cosine, Similarity::Overlap] {
                    let config = Config {
                        scope,
                        reduction,
                        similarity,
                        selection: Selection::Product,
                        grad_loss: 3.0,
                        ..Config::default()
                    };
                    let about = format!("{scope:?}, {reduction:?}, {similarity}");
                    check(&about, &problem, &config);
                }
            }
        }
    }
}

#[test]
fn teachers_with_other_vocabularies() {
    let config = Config {
        teacher_classes: TeacherClasses::CommonPrefix,
        ..Config::default()
    };
    for classes in [[70, 61], [61, 70]] {
        for kind in [Kind::Linear, Kind::Logits] {
            let problem = Problem::new(21, [24, 40], classes, kind);
            check(&format!("{classes:?}, {kind:?}"), &problem, &config);
        }
    }
}

/// Several tiles of classes and of hidden states, several segments of the sum over the classes.
#[test]
fn long_rows_and_long_hidden_states() {
    for (rows, hidden, classes) in [(19, 600, 2600), (3, 1100, 40), (40, 3, 3001), (1, 1, 1)] {
        let problem = Problem::new(rows, [hidden, 33], [classes; 2], Kind::Linear);
        let about = format!("{rows} x {hidden} x {classes}");
        check(&about, &problem, &Config::default());
    }
}

#[test]
fn heads_without_bias() {
    let mut problem = Problem::new(21, [24, 17], [70, 70], Kind::Linear);
    problem.student.bias = None;
    problem.teacher.bias = None;
    check("no bias", &problem, &Config::default());
}

#[test]
fn gradients_are_added_where_asked_for() {
    for scope in [Scope::Row, Scope::Batch] {
        let config = Config {
            scope,
            grad_write: GradWrite::Accumulate,
            ..Config::default()
        };
        let problem = Problem::new(53, [24, 17], [70, 70], Kind::Linear);
        let truth = problem.truth(&config);
        for chunk_rows in [53, 16, 5] {
            for before in [0.0, 0.5, -0.25] {
                let done = problem.run(&problem.loss(chunk_rows), &config, before);
                let about = format!("{scope:?}, {chunk_rows}, {before}");
                problem.check(&about, &config, &truth, &done, before.into());
                // The gradient of an ignored row is 0, and the sum exactly what was there.
                let ignored = &done.grad_hidden_states[3 * 24..4 * 24];
                assert!(ignored.iter().all(|g| *g == before), "{about}");
            }
        }
    }
}

/// The loss in f64 at two values of a weight. The steps keep every logit on the grid of f32.
#[test]
fn weights_and_hidden_states_have_the_slopes_of_the_loss() {
    const STEP: f32 = 1.0 / 4096.0;
    let config = Config {
        divergence: Divergence::ReverseKl,
        selection: Selection::Fixed(0.25),
        ..Config::default()
    };
    let problem = |change: &dyn Fn(&mut Problem)| {
        let mut problem = Problem::new(21, [24, 17], [70, 70], Kind::Linear);
        change(&mut problem);
        problem
    };
    let done = {
        let problem = problem(&|_| {});
        problem.run(&problem.loss(5), &config, 0.0)
    };
    let slope = |change: &dyn Fn(&mut Problem, f32)| {
        let loss = |step: f32| {
            let problem = problem(&|p| change(p, step));
            problem.truth(&config).done.summary.loss
        };
        (loss(STEP) - loss(-STEP)) / (2.0 * f64::from(STEP))
    };
    let mut largest: f64 = 0.0;
    for (i, got) in [(0, 5), (7, 0), (69, 23), (35, 11)]
        .map(|(class, j)| class * 24 + j)
        .map(|i| (i, done.grad_weights[i]))
    {
        let want = slope(&|problem, step| problem.student.weights[i] += step);
        assert!(
            (f64::from(got) - want).abs() < 2e-7,
            "weight {i}: {got:e}, {want:e}"
        );
        largest = largest.max(want.abs());
    }
    for (i, got) in [1, 24 * 8 + 3, 24 * 20].map(|i| (i, done.grad_hidden_states[i])) {
        let want = slope(&|problem, step| problem.student.hidden_states[i] += step);
        assert!(
            (f64::from(got) - want).abs() < 2e-7,
            "hidden {i}: {got:e}, {want:e}"
        );
        largest = largest.max(want.abs());
    }
    assert!(largest > 1e-3, "{largest:e}");
}
