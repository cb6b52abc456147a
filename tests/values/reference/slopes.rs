//! The reference's gradient against central differences of its own loss.

use wgpu_distill::{Batch, Config, Progress, Reduction, Selection, TemperatureScaling, reference};

use crate::cases::tolerance::assert_close;

const ONCE: TemperatureScaling = TemperatureScaling::None;
const SQUARED: TemperatureScaling = TemperatureScaling::Squared;

/// Name, classes, temperatures of student and teacher, smoothing, scaling, and the factor of the logits.
type Shape = (&'static str, usize, [f32; 2], f32, TemperatureScaling, f32);

const SLOPES: [Shape; 6] = [
    // The two cross-entropies alone.
    ("bare", 5, [1.0, 1.0], 0.0, ONCE, 1.0),
    // Different temperatures, which must not be swapped.
    ("temperatures", 7, [2.5, 0.75], 0.0, ONCE, 2.0),
    // A low temperature, which makes the slope eight times as steep.
    ("steep", 6, [0.125, 0.125], 0.0, ONCE, 0.25),
    // Smoothing spreads the label over all classes. T^2 multiplies the loss.
    ("smoothing", 9, [1.5, 3.0], 0.25, SQUARED, 1.0),
    // Two classes, each with the other's negated gradient.
    ("two", 2, [1.0, 4.0], 0.125, SQUARED, 3.0),
    // More classes than an unrolled loop handles, some of them with a tiny probability.
    ("peaked", 67, [1.0, 2.0], 0.0, ONCE, 4.0),
];

fn slope_config(n: usize) -> Config {
    let (_, _, [student_temperature, teacher_temperature], label_smoothing, scaling, _) = SLOPES[n];
    Config {
        student_temperature,
        teacher_temperature,
        label_smoothing,
        temperature_scaling: scaling,
        ..Config::default()
    }
}

/// The step of a logit. Logits are multiples of 1/256 below 16, so that it is exact in f32.
const STEP: f32 = 1.0 / 16384.0;

/// Approximately normal values in about [-3.5, 3.5] times `scale`, computed from the index.
fn logits(n: usize, seed: u32, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9).wrapping_add(1);
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 - 0.5
    };
    let mut normal = || (0..12).map(|_| uniform()).sum::<f32>();
    let round = |x: f32| (x * 256.0).round() / 256.0;
    (0..n)
        .map(|_| round(normal() * scale).clamp(-15.0, 15.0))
        .collect()
}

/// The slope of `loss` at each logit, by central differences.
fn differences(at: &[f32], loss: impl Fn(&[f32]) -> f64) -> Vec<f64> {
    let slope = |i: usize| {
        let mut moved = at.to_vec();
        let (up, down) = (at[i] + STEP, at[i] - STEP);
        moved[i] = up;
        let above = loss(&moved);
        moved[i] = down;
        (above - loss(&moved)) / (f64::from(up) - f64::from(down))
    };
    (0..at.len()).map(slope).collect()
}

fn check_slopes(about: &str, gradient: &[f64], slopes: &[f64]) {
    let largest = gradient.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    assert!(largest > 1e-3, "{about}: no slope to speak of");
    for (i, (got, want)) in gradient.iter().zip(slopes).enumerate() {
        let about = format!("{about}: element {i}");
        assert_close(&about, *got, *want, 1e-6 * largest);
    }
}

/// TSSR is constant in the gradient.
#[test]
fn reference_gradient_equals_differences_of_its_loss() {
    for (n, (name, classes, .., scale)) in SLOPES.into_iter().enumerate() {
        let config = slope_config(n);
        let student = logits(classes, 2 * n as u32, scale);
        let mut teacher = logits(classes, 2 * n as u32 + 1, scale);
        // A class that the teacher masks has a slope like any other.
        teacher[0] = f32::NEG_INFINITY;
        let labels = [classes as i32 - 1];
        for tssr in [0.0, 0.3, 1.0] {
            let slopes = differences(&student, |student| {
                let batch = Batch::new(student, &teacher, &labels, classes);
                reference::row_loss(&config, &batch, 0, tssr)
            });
            let batch = Batch::new(&student, &teacher, &labels, classes);
            let decision = reference::RowResult {
                loss: 0.0,
                kdr: 0.0,
                tssr,
                tssr_slope: 0.0,
                flags: 0,
            };
            let gradient = reference::apply(&config, &batch, &[decision]).expect("valid");
            check_slopes(&format!("{name}, TSSR {tssr}"), &gradient, &slopes);
        }
    }
}

/// The same through the reduction, for a selection whose TSSR does not depend on the student.
#[test]
fn reference_distill_gradient_equals_differences_of_its_loss() {
    for (n, (name, classes, .., scale)) in SLOPES.into_iter().enumerate() {
        let student = logits(3 * classes, 50 + n as u32, scale);
        let teacher = logits(3 * classes, 90 + n as u32, scale);
        let labels = [0, -100, 1];
        for reduction in [Reduction::Sum, Reduction::Mean, Reduction::SumOver(5.0)] {
            let config = Config {
                selection: Selection::Tstr,
                reduction,
                ..slope_config(n)
            };
            let of = |student: &[f32]| {
                let batch = Batch::new(student, &teacher, &labels, classes);
                let progress = Progress::new(3, 8);
                reference::distill(&config, progress, &batch).expect("a valid batch")
            };
            let slopes = differences(&student, |student| of(student).summary.loss);
            let gradient = of(&student).grad_student_logits;
            check_slopes(&format!("{name}, {reduction:?}"), &gradient, &slopes);
        }
    }
}
