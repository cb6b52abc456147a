//! Sampled tokens: over the tokens of the student, the estimates k1, k2 and k3 and their gradients have the means that a divergence of whole
//! rows has.

use wgpu_distill::{
    Batch, Config, Divergence as D, Logits, Outputs, Reduction, Selection, reference,
};

use super::drawn::engines;
use crate::cases::inputs::Random;
use crate::cases::tolerance::assert_close;
use wgpu_distill::Progress;

/// `ln softmax(x / temperature)`
fn log_softmax(x: &[f32], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = x.iter().map(|x| f64::from(*x) / temperature).collect();
    let max = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scaled.iter().map(|x| (x - max).exp()).sum();
    scaled.iter().map(|x| x - max - sum.ln()).collect()
}

/// One row for each class as the token, weighted with its probability. The sum over the rows is then the mean over the tokens.
#[test]
fn the_mean_over_the_tokens_is_a_divergence() {
    let mut random = Random::new(91);
    for (classes, temperature) in [(37, 1.0), (260, 2.0)] {
        let mut normal = || (0..classes).map(|_| 2.0 * random.normal()).collect();
        let (x, y): (Vec<f32>, Vec<f32>) = (normal(), normal());
        let (log_p, log_q) = (log_softmax(&x, temperature), log_softmax(&y, 1.0));
        let of = |divergence| reference::divergence(divergence, &log_p, &log_q, 0);
        let gradient = |divergence| reference::divergence_gradient(divergence, &log_p, &log_q, 0);
        let squares = log_p.iter().zip(&log_q);
        let half_square: f64 = squares.map(|(p, q)| p.exp() * (q - p).powi(2) / 2.0).sum();
        let student = x.repeat(classes);
        let tokens: Vec<f32> = log_q.iter().map(|q| *q as f32).collect();
        let weights: Vec<f32> = log_p.iter().map(|p| p.exp() as f32).collect();
        let labels: Vec<i32> = (0..classes as i32).collect();
        let batch = Batch {
            student_logits: Logits::new(&student, classes),
            teacher_logits: Logits::new(&tokens, 1),
            labels: &labels,
            soft_labels: None,
            row_weights: Some(&weights),
            class_weights: None,
            teacher_ids: None,
        };
        for (divergence, value, slopes) in [
            (
                D::K1 { clamp: 1e4 },
                of(D::ReverseKl),
                gradient(D::ReverseKl),
            ),
            (D::K2 { clamp: 1e4 }, half_square, gradient(D::ReverseKl)),
            // The mean of e^r is the sum of q, so its gradient is that of the forward divergence.
            (
                D::K3 { clamp: 20.0 },
                of(D::ReverseKl),
                gradient(D::ForwardKl),
            ),
        ] {
            let config = Config {
                divergence,
                selection: Selection::Fixed(0.0),
                reduction: Reduction::Sum,
                student_temperature: temperature as f32,
                ..Config::default()
            };
            for engine in engines() {
                let about = format!("{divergence}, {classes} classes, {}", engine.describe());
                let got = engine.run(&config, Progress::NONE, &batch, Outputs::GRADIENT);
                let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
                assert_close(&about, got.summary.loss.into(), value, 2e-5 * value);
                let rows = got.into_grad_student_logits();
                for (i, slope) in slopes.iter().enumerate() {
                    let column = rows.iter().skip(i).step_by(classes);
                    let mean: f64 = column.map(|g| f64::from(*g)).sum();
                    let about = format!("{about}, class {i}");
                    assert_close(&about, mean, slope / temperature, 1e-5);
                }
            }
        }
    }
}
