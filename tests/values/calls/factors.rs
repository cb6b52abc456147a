//! Factors of loss and gradient at the ends of their range.
//!
//! Inside the range the results match the reference. Outside it the error names the product.

use wgpu_distill::{
    Batch, Config, Decision, Error, Outputs, OutputsMut, Progress, Reduction, Storage,
    TemperatureScaling, reference,
};

use super::{SIX, engines};
use crate::buffers::Bench;
use crate::cases::inputs::Kind;
use crate::cases::{Case, compare};
use crate::steps::Steps;

const HALFWAY: Progress = Progress { step: 1, total: 2 };

/// Student and teacher temperature, `grad_loss`, denominator.
type Numbers = [f32; 4];

fn config([student, teacher, grad_loss, denominator]: Numbers, squared: bool) -> Config {
    Config {
        student_temperature: student,
        teacher_temperature: teacher,
        grad_loss,
        reduction: Reduction::SumOver(denominator),
        temperature_scaling: match squared {
            true => TemperatureScaling::Squared,
            false => TemperatureScaling::None,
        },
        ..Config::default()
    }
}

/// The last numbers inside the range, true if temperatures are squared, the first numbers outside, and the product that the error names.
#[rustfmt::skip]
const BORDERS: [(Numbers, bool, Numbers, &str); 14] = [
    ([1e15, 1e15, 1e-15, 1.0], true, [1.2e15, 1.2e15, 1e-15, 1.0], "student_temperature * teacher_temperature"),
    ([1e-15, 1e-15, 1.0, 1.0], true, [8e-16, 8e-16, 1.0, 1.0], "student_temperature * teacher_temperature"),
    ([1.0, 1.0, 1e30, 1.0], true, [1.0, 1.0, 1.4e30, 1.0], "grad_loss * teacher_temperature"),
    ([1.0, 1.0, -1e-30, 1.0], true, [1.0, 1.0, -7e-31, 1.0], "grad_loss * teacher_temperature"),
    ([1.0, 1.0, 1e30, 1.0], false, [1.0, 1.0, 1.4e30, 1.0], "grad_loss / student_temperature"),
    ([1e-10, 1.0, -1e20, 1.0], false, [1e-11, 1.0, -1e20, 1.0], "grad_loss / student_temperature"),
    ([1e10, 1.0, 1e-20, 1.0], false, [1e11, 1.0, 1e-20, 1.0], "grad_loss / student_temperature"),
    ([1.0, 1.0, 0.0, 1e30], false, [1.0, 1.0, 0.0, 2e30], "1 / denominator"),
    ([1.0, 1.0, 0.0, 1e-30], false, [1.0, 1.0, 0.0, 7e-31], "1 / denominator"),
    ([1.0, 1.0, 1e-20, 1e10], false, [1.0, 1.0, 1e-20, 2e10], "grad_loss / student_temperature / denominator"),
    ([1.0, 1.0, 1e20, 1e-10], false, [1.0, 1.0, 1e20, 1e-11], "grad_loss / student_temperature / denominator"),
    ([1e5, 1e5, 0.0, 1e-20], true, [1e5, 1e5, 0.0, 1e-21], "student_temperature * teacher_temperature / denominator"),
    ([1.0, 1e10, 1e10, 1e-10], true, [1.0, 1e10, 1e10, 1e-11], "grad_loss * teacher_temperature / denominator"),
    ([1e30, 1e-30, 1.0, 1.0], true, [1.85e19, 1.85e19, 1e-19, 1.0], "student_temperature * teacher_temperature"),
];

#[test]
fn factors_inside_the_range_are_answered() {
    for (numbers, squared, ..) in BORDERS {
        let mut case = Case::of_shape(5, 33, Kind::Normal, [Storage::F32; 3]);
        case.config = config(numbers, squared);
        case.progress = HALFWAY;
        let about = format!("{numbers:?}, squared {squared}");
        let host = case.host();
        let batch = host.batch();
        let want = reference::distill(&case.config, HALFWAY, &batch).expect("inside");
        let check = |outcome: &compare::Outcome, engine: &str| {
            let finite = outcome.summary.loss.is_finite() && want.summary.loss.is_finite();
            assert!(finite, "{engine}, {about}: {:?}", outcome.summary);
            if let Err(why) = compare::check(&case, &want, outcome) {
                panic!("{engine}, {about}: {why}");
            }
        };
        for engine in engines() {
            let done = engine.run(&case.config, HALFWAY, &batch, Outputs::ALL);
            let done = done.unwrap_or_else(|e| panic!("{about}: {e}"));
            let outcome = compare::Outcome {
                summary: done.summary,
                rows: done.rows.clone(),
                gradient: done.into_grad_student_logits(),
                metrics: Vec::new(),
            };
            check(&outcome, &engine.describe());
            // With one class the loss is 0 for every factor.
            let single = Batch::new(&[1.0], &[1.0], &[0], 1);
            let done = engine.run(&case.config, HALFWAY, &single, Outputs::ALL);
            let done = done.expect("inside");
            assert_eq!(
                (done.summary.loss, done.rows[0].loss),
                (0.0, 0.0),
                "{about}"
            );
            assert_eq!(done.into_grad_student_logits(), [0.0], "{about}");
        }
        if let Some(gpu) = crate::buffers::gpu() {
            let outcome = Bench::new(gpu).run(&case);
            check(
                &outcome.unwrap_or_else(|e| panic!("{about}: {e}")),
                "buffers",
            );
        }
    }
}

fn names<T>(done: Result<T, Error>, want: &str) {
    match done {
        Err(Error::InvalidConfig { field, value, .. }) => {
            assert_eq!(field, want);
            assert!(value.parse::<f64>().is_ok(), "{value}");
        }
        Err(other) => panic!("{want}: {other}"),
        Ok(_) => panic!("{want} is not refused"),
    }
}

#[test]
fn factors_outside_the_range_are_refused() {
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    for (_, squared, numbers, want) in BORDERS {
        let config = config(numbers, squared);
        names(reference::distill(&config, HALFWAY, &batch), want);
        for engine in engines() {
            names(engine.run(&config, HALFWAY, &batch, Outputs::ALL), want);
            let none = OutputsMut::default();
            names(engine.run_into(&config, HALFWAY, &batch, none), want);
            names(engine.observe(&config, &batch), want);
            names(engine.decide(&config, HALFWAY, &[], 3), want);
            let decisions = [Decision::default(); 2];
            names(engine.apply(&config, &batch, &decisions), want);
        }
        let Some(gpu) = crate::buffers::gpu() else {
            continue;
        };
        let mut case = Case::of_shape(5, 33, Kind::Normal, [Storage::F32; 3]);
        case.config = config;
        let Err(why) = Bench::new(gpu).run(&case) else {
            panic!("{want} is not refused on buffers");
        };
        assert!(why.contains(want), "{why}");
    }
}
