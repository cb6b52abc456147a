//! Factors of loss and gradient at the ends of their range.
//!
//! Inside the range the results match the reference. Outside it the error names the product.

use wgpu_distill::{
    Batch, Config, Decision, Error, HardTemperature, Outputs, OutputsMut, Progress, Reduction,
    Storage, TemperatureScaling, TssrGradient, reference,
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

/// Weights of the soft part, the hard part and the z-loss, and the temperature of the hard part, 0 for the student's.
type Weights = [f32; 4];

/// The same with weights of the parts.
#[rustfmt::skip]
const WEIGHTED: [(Weights, Numbers, bool, Numbers, &str); 17] = [
    ([1e3, 1.0, 0.0, 0.0], [1.0, 1.0, 1e27, 1.0], false, [1.0, 1.0, 1.4e27, 1.0], "soft_weight * grad_loss / student_temperature"),
    ([1e-3, 1.0, 0.0, 0.0], [1.0, 1.0, -1e-27, 1.0], false, [1.0, 1.0, -7e-28, 1.0], "soft_weight * grad_loss / student_temperature"),
    ([1e4, 1.0, 0.0, 0.0], [1e13, 1e13, 1e-13, 1.0], true, [1.2e13, 1.2e13, 1e-13, 1.0], "soft_weight * student_temperature * teacher_temperature"),
    ([1e4, 1.0, 0.0, 0.0], [1.0, 1.0, 1e26, 1.0], true, [1.0, 1.0, 1.4e26, 1.0], "soft_weight * grad_loss * teacher_temperature"),
    ([1e-5, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1e25], false, [1.0, 1.0, 0.0, 2e25], "soft_weight / denominator"),
    ([1e-5, 1.0, 0.0, 0.0], [1.0, 1.0, 1e-15, 1e10], false, [1.0, 1.0, 1e-15, 2e10], "soft_weight * grad_loss / student_temperature / denominator"),
    ([1.0, 1e3, 0.0, 0.0], [1.0, 1.0, 1e27, 1.0], false, [1.0, 1.0, 1.4e27, 1.0], "hard_weight * grad_loss / student_temperature"),
    ([1.0, 1e-4, 0.0, 0.0], [1e-13, 1e-13, 1e13, 1.0], true, [8e-14, 8e-14, 1e13, 1.0], "hard_weight * student_temperature * teacher_temperature"),
    ([1.0, 1e-4, 0.0, 0.0], [1.0, 1.0, 1e-26, 1.0], true, [1.0, 1.0, 7e-27, 1.0], "hard_weight * grad_loss * teacher_temperature"),
    ([1.0, 1e-5, 0.0, 0.0], [1.0, 1.0, 0.0, 1e25], false, [1.0, 1.0, 0.0, 2e25], "hard_weight / denominator"),
    ([1.0, 1e3, 0.0, 1e-3], [1.0, 1.0, 1e24, 1.0], true, [1.0, 1.0, 1.4e24, 1.0], "hard_weight * grad_loss / hard_temperature"),
    ([1.0, 1e-5, 0.0, 1e-3], [1.0, 1.0, 0.0, 1e25], true, [1.0, 1.0, 0.0, 2e25], "hard_weight / denominator"),
    ([1.0, 1.0, 500.0, 0.0], [1.0, 1.0, 1e27, 1.0], false, [1.0, 1.0, 1.4e27, 1.0], "2 * z_loss * grad_loss / student_temperature"),
    ([1.0, 1.0, 5e-6, 0.0], [1.0, 1.0, 1e-15, 1e10], true, [1.0, 1.0, 1e-15, 2e10], "2 * z_loss * grad_loss / student_temperature / denominator"),
    ([1.0, 1e-6, 0.05, 1e-3], [1.0, 1.0, 1e28, 1.0], false, [1.0, 1.0, 1.4e28, 1.0], "2 * z_loss * grad_loss / hard_temperature"),
    ([1.0, 1.0, 1e-5, 0.0], [1.0, 1.0, 0.0, 1e25], false, [1.0, 1.0, 0.0, 2e25], "z_loss / denominator"),
    // Weights of 0 leave the products of their parts out.
    ([0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1e30, 1.0], false, [1.0, 1.0, 1.4e30, 1.0], "grad_loss / student_temperature"),
];

/// Configurations inside the range, the same outside, and the product that the error names.
fn borders() -> Vec<(Config, Config, &'static str)> {
    let mut all = Vec::new();
    for (inside, squared, outside, name) in BORDERS {
        all.push((config(inside, squared), config(outside, squared), name));
    }
    for ([soft_weight, hard_weight, z_loss, own], inside, squared, outside, name) in WEIGHTED {
        let weighted = |numbers| Config {
            soft_weight,
            hard_weight,
            z_loss,
            hard_temperature: match own {
                0.0 => HardTemperature::Student,
                own => HardTemperature::Own(own),
            },
            ..config(numbers, squared)
        };
        all.push((weighted(inside), weighted(outside), name));
    }
    // Losses, which have the factor of the temperatures, multiply the gradient through TSSR.
    let attached = |grad_loss| Config {
        tssr_gradient: TssrGradient::Attached,
        ..config([1e10, 1.0, grad_loss, 1.0], true)
    };
    let name = "grad_loss / student_temperature";
    all.push((attached(1e-20), attached(7e-21), name));
    all
}

#[test]
fn factors_inside_the_range_are_answered() {
    for (config, ..) in borders() {
        let mut case = Case::of_shape(5, 33, Kind::Normal, [Storage::F32; 3]);
        case.config = config;
        case.progress = HALFWAY;
        let about = format!("{config:?}");
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
            let weights = [config.soft_weight, config.hard_weight, config.z_loss];
            if weights != [1.0, 1.0, 0.0] {
                continue;
            }
            // With one class the loss is 0 for every factor.
            let single = Batch::new(&[1.0], &[1.0], &[0], 1);
            let done = engine.run(&config, HALFWAY, &single, Outputs::ALL);
            let done = done.expect("inside");
            let losses = (done.summary.loss, done.rows[0].loss);
            assert_eq!(losses, (0.0, 0.0), "{about}");
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
    for (_, config, want) in borders() {
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
