//! The reference's gradient equals the central differences of its loss with TSSR held constant, in f64, for random batches and classes.

use proptest::strategy::Strategy;
use wgpu_distill::{Batch, Logits, reference};

use super::agree::close;
use super::drawn::{Drawn, Kernels, Masked, drawn, for_all};

/// The step of a logit. Logits are multiples of 1/8, so that it is exact in f32.
const MOVE: f32 = 1.0 / 4096.0;

fn batch(drawn: &Drawn) -> Batch<'_> {
    Batch {
        student_logits: Logits::new(&drawn.student, drawn.classes),
        teacher_logits: Logits::new(&drawn.teacher, drawn.classes),
        labels: &drawn.labels,
        row_weights: None,
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    // An infinite loss has no slope.
    let finite =
        drawn(Kernels::Any, true).prop_filter("infinite losses", |drawn| match drawn.masked {
            Masked::Student => false,
            Masked::Both => drawn.config.label_smoothing == 0.0,
            _ => true,
        });
    for_all("reference", [120, 3000], &finite, |drawn| {
        let done = reference::distill(&drawn.config, drawn.progress, &batch(&drawn));
        let done = done.map_err(|e| e.to_string())?;
        let n = drawn.classes;
        let scale = f64::from(drawn.config.grad_loss) * drawn.weight()
            / drawn.config.temperature_factor()
            * f64::from(drawn.config.student_temperature)
            / f64::from(drawn.config.grad_loss.abs());
        for (row, result) in done.rows.iter().enumerate() {
            if drawn.labels[row] == drawn.config.ignore_index || !result.loss.is_finite() {
                continue;
            }
            let loss = |i: usize, by: f32| {
                let mut moved = drawn.clone();
                moved.student[row * n + i] += by;
                reference::row_loss(&drawn.config, &batch(&moved), row, result.tssr)
            };
            // Twelve classes of each row, including the label.
            let step = n.div_ceil(11);
            let label = drawn.labels[row] as usize;
            for i in (0..n).step_by(step).chain([label]) {
                if drawn.student[row * n + i].is_infinite() {
                    continue;
                }
                let slope = (loss(i, MOVE) - loss(i, -MOVE)) / (2.0 * f64::from(MOVE));
                let got = done.grad_student_logits[row * n + i];
                let tolerance =
                    1e-6 * drawn.weight() / f64::from(drawn.config.student_temperature).min(1.0);
                close(
                    &format!("slope of row {row}, class {i}"),
                    got,
                    slope * scale,
                    tolerance,
                )?;
            }
        }
        Ok(())
    });
}
