//! Refusals: the error names the argument and its values, and no memory changes.

use wgpu_distill::linear::{FusedLinear, Linear, LinearBatch, LinearOutputs, Teacher};
use wgpu_distill::{
    Config, Divergence, Error, Logits, Progress, Reduction, RowMetrics, RowResult, Selection,
    Standardization,
};

use crate::problem::HALFWAY;

const STATES: [f32; 4] = [0.5, -1.0, 2.0, 0.25];
const WEIGHTS: [f32; 6] = [1.0, 0.0, 0.5, -0.5, 0.0, 1.0];
const BIAS: [f32; 3] = [0.0, 0.5, -0.5];
const LABELS: [i32; 2] = [0, 2];

/// Two rows of two hidden elements and three classes.
fn student() -> Linear<'static> {
    Linear::new(&STATES, &WEIGHTS, 2, 3).with_bias(&BIAS)
}

fn batch() -> LinearBatch<'static> {
    LinearBatch::new(student(), Teacher::Linear(student()), &LABELS)
}

/// Lengths of rows, metrics, gradients of hidden states, weights and bias.
const LENGTHS: [usize; 5] = [2, 2, 4, 6, 3];

/// Runs with outputs of these lengths. Fails if a refused call changes one.
fn run(
    config: &Config,
    progress: Progress,
    batch: &LinearBatch<'_>,
    lengths: [usize; 5],
) -> Result<(), Error> {
    let mut row = RowResult::default();
    row.loss = 7.0;
    let mut rows = vec![row; lengths[0]];
    let mut metrics = vec![RowMetrics::default(); lengths[1]];
    let [mut states, mut weights, mut bias] = [2, 3, 4].map(|i| vec![7.0f32; lengths[i]]);
    let outputs = LinearOutputs {
        rows: Some(&mut rows),
        metrics: (lengths[1] > 0).then_some(&mut metrics),
        grad_hidden_states: Some(&mut states),
        grad_weights: Some(&mut weights),
        grad_bias: Some(&mut bias),
    };
    let done = FusedLinear::new().run_into(config, progress, batch, outputs);
    if done.is_err() {
        let all = [&states, &weights, &bias].map(|gradient| gradient.iter());
        assert!(all.into_iter().flatten().all(|g| *g == 7.0), "{done:?}");
        assert!(rows.iter().all(|r| *r == row), "{done:?}");
    }
    done.map(|_| ())
}

#[track_caller]
fn refused(batch: &LinearBatch<'_>, want: Error) {
    let got = run(&Config::default(), HALFWAY, batch, LENGTHS);
    assert_eq!(got, Err(want));
}

fn shape(name: &'static str, rows: usize, columns: usize, got: usize) -> Error {
    Error::MatrixShape {
        name,
        rows,
        columns,
        got,
    }
}

#[test]
fn the_batch_itself_is_accepted() {
    assert_eq!(run(&Config::default(), HALFWAY, &batch(), LENGTHS), Ok(()));
}

#[test]
fn matrices_of_another_shape_are_refused() {
    type Change = fn(&mut Linear<'static>);
    let changes: [(Change, Error, Error); 7] = [
        (
            |l| l.hidden_states = &STATES[..3],
            shape("student.hidden_states", 2, 2, 3),
            shape("teacher.hidden_states", 2, 2, 3),
        ),
        (
            |l| l.hidden_states = &WEIGHTS,
            shape("student.hidden_states", 2, 2, 6),
            shape("teacher.hidden_states", 2, 2, 6),
        ),
        (
            |l| l.weights = &WEIGHTS[..5],
            shape("student.weights", 3, 2, 5),
            shape("teacher.weights", 3, 2, 5),
        ),
        (
            |l| l.bias = Some(&STATES),
            shape("student.bias", 3, 1, 4),
            shape("teacher.bias", 3, 1, 4),
        ),
        (
            |l| l.hidden = 0,
            Error::ZeroHiddenSize {
                name: "student.hidden_states",
            },
            Error::ZeroHiddenSize {
                name: "teacher.hidden_states",
            },
        ),
        (
            |l| l.classes = 0,
            Error::ZeroClasses {
                name: "student.weights",
            },
            Error::ZeroClasses {
                name: "teacher.weights",
            },
        ),
        (
            |l| l.hidden = usize::MAX,
            Error::LimitExceeded {
                what: "the hidden size",
                needed: u64::MAX,
                limit: 1 << 28,
            },
            Error::LimitExceeded {
                what: "the hidden size",
                needed: u64::MAX,
                limit: 1 << 28,
            },
        ),
    ];
    for (change, of_student, of_teacher) in changes {
        let mut changed = student();
        change(&mut changed);
        refused(
            &LinearBatch {
                student: changed,
                ..batch()
            },
            of_student,
        );
        refused(
            &LinearBatch {
                teacher: Teacher::Linear(changed),
                ..batch()
            },
            of_teacher,
        );
    }
    let message = shape("student.weights", 3, 2, 5).to_string();
    assert_eq!(
        message,
        "`student.weights` has 5 elements, expected 3 rows of 2"
    );
}

#[test]
fn outputs_of_another_shape_are_refused() {
    let row_count = |name, got| Error::RowCount { name, rows: 2, got };
    for (which, got, want) in [
        (0, 1, row_count("rows", 1)),
        (1, 3, row_count("metrics", 3)),
        (2, 5, shape("grad_hidden_states", 2, 2, 5)),
        (3, 7, shape("grad_weights", 3, 2, 7)),
        (4, 2, shape("grad_bias", 3, 1, 2)),
    ] {
        let mut lengths = LENGTHS;
        lengths[which] = got;
        let done = run(&Config::default(), HALFWAY, &batch(), lengths);
        assert_eq!(done, Err(want));
    }
    let mut without = batch();
    without.student.bias = None;
    let done = run(&Config::default(), HALFWAY, &without, LENGTHS);
    let Err(Error::Unsupported { what, .. }) = done else {
        panic!("{done:?}")
    };
    assert_eq!(what, "`grad_bias` without `student.bias`");
}

#[test]
fn teachers_of_another_shape_are_refused() {
    let two = Linear::new(&STATES, &WEIGHTS[..4], 2, 2);
    let mismatch = Error::ShapeMismatch {
        student: 3,
        teacher: 2,
    };
    let with = |teacher| LinearBatch { teacher, ..batch() };
    refused(&with(Teacher::Linear(two)), mismatch.clone());
    refused(&with(Teacher::Logits(Logits::new(&STATES, 2))), mismatch);
    refused(
        &with(Teacher::Logits(Logits::new(&STATES, 3))),
        Error::SliceTooSmall {
            name: "teacher_logits",
            needed: 6,
            got: 4,
        },
    );
    let list = |ids| Teacher::TopK {
        log_probabilities: Logits::new(&STATES, 2),
        ids,
    };
    let (k, expected) = (2, 4);
    refused(
        &with(list(&[0, 1, 2])),
        Error::TeacherIds {
            k,
            expected,
            got: 3,
        },
    );
    let twice = Error::TeacherIdTwice { row: 1, id: 2 };
    // Metrics beside a list are refused before its entries are read.
    let config = Config::default();
    let mut lengths = LENGTHS;
    lengths[1] = 0;
    let done = run(&config, HALFWAY, &with(list(&[0, 1, 2, 2])), lengths);
    assert_eq!(done, Err(twice));
    let done = run(&config, HALFWAY, &with(list(&[0, 1, 2, 0])), LENGTHS);
    assert!(matches!(done, Err(Error::Unsupported { .. })), "{done:?}");
}

#[test]
fn rows_are_checked_before_anything_runs() {
    let with = |labels| LinearBatch { labels, ..batch() };
    let out = Error::LabelOutOfRange {
        row: 1,
        label: 3,
        classes: 3,
    };
    refused(&with(&[0, 3]), out);
    let weighted = LinearBatch {
        row_weights: Some(&[1.0, f32::NAN]),
        ..batch()
    };
    let done = run(&Config::default(), HALFWAY, &weighted, LENGTHS);
    assert!(
        matches!(done, Err(Error::RowWeight { row: 1, .. })),
        "{done:?}"
    );
    let soft = [0.5, 0.5, 0.0, 1.0, -1.0, 0.0];
    let soft = LinearBatch {
        soft_labels: Some(Logits::new(&soft, 3)),
        ..batch()
    };
    refused(
        &soft,
        Error::SoftLabel {
            row: 1,
            class: 1,
            value: -1.0,
        },
    );
    let weights = LinearBatch {
        class_weights: Some(&[1.0, 2.0]),
        ..batch()
    };
    refused(&weights, Error::ClassWeightCount { classes: 3, got: 2 });
    let zero = Config {
        reduction: Reduction::SumOver(0.0),
        ..Config::default()
    };
    let want = Error::ZeroDenominator { row: 0, label: 0 };
    assert_eq!(run(&zero, HALFWAY, &batch(), LENGTHS), Err(want));
}

#[test]
fn configurations_are_checked_before_anything_runs() {
    let config = Config {
        student_temperature: 0.0,
        ..Config::default()
    };
    let done = run(&config, HALFWAY, &batch(), LENGTHS);
    let field = "student_temperature";
    assert!(
        matches!(&done, Err(Error::InvalidConfig { field: f, .. }) if *f == field),
        "{done:?}"
    );
    let progress = Progress { step: 3, total: 2 };
    let want = Error::InvalidProgress { step: 3, total: 2 };
    let done = run(&Config::default(), progress, &batch(), LENGTHS);
    assert_eq!(done, Err(want));
    // A factor over the rows of the batch is too small, also where one over the rows of a chunk is not.
    let tiny = Config {
        grad_loss: 8e-31,
        ..Config::default()
    };
    let done = run(&tiny, HALFWAY, &batch(), LENGTHS);
    let field = "grad_loss / student_temperature / rows";
    assert!(
        matches!(&done, Err(Error::InvalidConfig { field: f, .. }) if *f == field),
        "{done:?}"
    );
    let sampled = Config {
        divergence: Divergence::ALL
            .into_iter()
            .find(|d| d.is_sampled())
            .expect("K1"),
        selection: Selection::Fixed(0.5),
        ..Config::default()
    };
    let done = run(&sampled, HALFWAY, &batch(), LENGTHS);
    assert!(
        matches!(done, Err(Error::SampledTeacher { got: 3, .. })),
        "{done:?}"
    );
    let list = LinearBatch {
        teacher: Teacher::TopK {
            log_probabilities: Logits::new(&STATES, 2),
            ids: &[0, 1, 2, 0],
        },
        ..batch()
    };
    let standardized = Config {
        standardization: Standardization::ZScore,
        ..Config::default()
    };
    let mut lengths = LENGTHS;
    lengths[1] = 0;
    let done = run(&standardized, HALFWAY, &list, lengths);
    assert!(matches!(done, Err(Error::Unsupported { .. })), "{done:?}");
}
