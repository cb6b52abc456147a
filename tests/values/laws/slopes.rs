//! The reference's gradient equals the central differences of its loss, in f64, for random batches, losses and classes.

use proptest::strategy::Strategy;
use wgpu_distill::{Batch, Divergence, Logits, Selection, TssrGradient, reference};

use super::agree::close;
use super::drawn::{Drawn, Kernels, Masked, drawn, for_all};

/// The step of a logit. Logits are multiples of 1/8, so that it is exact in f32.
const MOVE: f32 = 1.0 / 4096.0;

fn batch(drawn: &Drawn) -> Batch<'_> {
    Batch {
        student_logits: Logits::new(&drawn.student, drawn.classes),
        teacher_logits: Logits::new(&drawn.teacher, drawn.classes),
        labels: &drawn.labels,
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    }
}

/// A gradient passes neither through the share of `KlTv`, the mixture of `Taid` nor the weight of `Wsld`, and `p = q` is a kink of the others.
fn has_slopes(divergence: Divergence) -> bool {
    !matches!(
        divergence,
        Divergence::KlTv { .. }
            | Divergence::Taid { .. }
            | Divergence::TotalVariation
            | Divergence::NegLogOverlap
            | Divergence::Wsld
    )
}

/// The loss of a row with one logit moved. An attached TSSR moves too.
fn loss(drawn: &Drawn, row: usize, i: usize, by: f32, tssr: f64) -> Result<f64, String> {
    let mut moved = drawn.clone();
    moved.student[row * drawn.classes + i] += by;
    let (config, batch) = (&drawn.config, batch(&moved));
    if config.tssr_gradient == TssrGradient::Detached {
        return Ok(reference::row_loss(config, &batch, row, tssr));
    }
    let done = reference::distill(config, drawn.progress, &batch).map_err(|e| e.to_string())?;
    Ok(done.rows[row].loss)
}

/// Returns true if the selection changes between TSTR and KDR nearby.
fn at_a_kink(drawn: &Drawn, kdr: f64) -> bool {
    let selects = matches!(drawn.config.selection, Selection::Min | Selection::Max);
    let attached = drawn.config.tssr_gradient == TssrGradient::Attached;
    // The similarity has its maximum, and the clamp, at 1.
    let near = |x: f64| (x - kdr).abs() < 1e-2;
    attached && (selects && near(drawn.progress.tstr().into()) || near(1.0))
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    // An infinite loss has no slope.
    let finite = drawn(Kernels::Any, true).prop_filter("infinite losses", |drawn| {
        let masked = match drawn.masked {
            Masked::Student => false,
            Masked::Both => drawn.config.label_smoothing == 0.0,
            _ => true,
        };
        masked && has_slopes(drawn.config.divergence)
    });
    for_all("reference", [240, 3000], &finite, |drawn| {
        let config = &drawn.config;
        let done = reference::distill(config, drawn.progress, &batch(&drawn));
        let done = done.map_err(|e| e.to_string())?;
        let n = drawn.classes;
        let scale =
            f64::from(config.grad_loss) / config.reduction.denominator(done.summary.valid_rows);
        let weight = drawn.weight();
        // The steepest temperature. The error of the differences grows with its powers.
        let temperatures = [
            f64::from(config.student_temperature),
            config.label_temperature(),
        ];
        let steep = temperatures.into_iter().fold(1.0, f64::min);
        for (row, result) in done.rows.iter().enumerate() {
            let ignored = drawn.labels[row] == config.ignore_index;
            if ignored || !result.loss.is_finite() || at_a_kink(&drawn, result.kdr) {
                continue;
            }
            // Twelve classes of each row, including the label.
            let step = n.div_ceil(11);
            let label = drawn.labels[row] as usize;
            for i in (0..n).step_by(step).chain([label]) {
                if drawn.student[row * n + i].is_infinite() {
                    continue;
                }
                let at = |by: f32| loss(&drawn, row, i, by, result.tssr);
                let slope = (at(MOVE)? - at(-MOVE)?) / (2.0 * f64::from(MOVE));
                let got = done.grad_student_logits[row * n + i];
                let tolerance = 1e-6 * weight / steep.powi(2);
                let about = format!("slope of row {row}, class {i}");
                close(&about, got, slope * scale, tolerance)?;
            }
        }
        Ok(())
    });
}
