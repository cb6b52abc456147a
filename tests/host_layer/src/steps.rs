//! Single steps on a GPU in a browser.

use wgpu_distill::gpu::Gpu;
use wgpu_distill::{Outputs, reference};

use crate::cases::Case;
use crate::cases::compare::{self, Outcome};

/// Runs observe, decide and apply. Returns an error if the gradient, or a softmax, differs from the reference's.
pub async fn check(gpu: &Gpu, case: &Case) -> Result<(), String> {
    let host = case.host();
    let (config, progress, batch) = (&case.config, case.progress, host.batch());
    let words = |e: wgpu_distill::Error| e.to_string();

    let rows = gpu.observe_async(config, &batch).await.map_err(words)?;
    let decisions = gpu.decide_async(config, progress, &rows, case.classes);
    let decisions = decisions.await.map_err(words)?;
    let gradient = gpu.apply_async(config, &batch, &decisions);
    let gradient = gradient.await.map_err(words)?;
    // The steps give no row results and no summary, so those of the whole method are used.
    let whole = gpu.run_async(config, progress, &batch, Outputs::ALL);
    let whole = whole.await.map_err(words)?;
    let outcome = Outcome {
        summary: whole.summary,
        rows: whole.rows,
        gradient,
        metrics: Vec::new(),
    };
    compare::check(case, &case.reference(), &outcome)?;

    let (logits, temperature) = (&batch.student_logits, config.student_temperature);
    let want = reference::softmax(logits, case.rows, temperature).map_err(words)?;
    let got = gpu.softmax_async(logits, case.rows, temperature);
    let got = got.await.map_err(words)?;
    if got.len() != want.len() {
        return Err(format!("{} probabilities, want {}", got.len(), want.len()));
    }
    let is_close = |(g, w): (&f32, &f64)| (f64::from(*g) - w).abs() <= 1e-5 * w + 1e-7;
    match got.iter().zip(&want).position(|pair| !is_close(pair)) {
        Some(i) => Err(format!("softmax at {i}: {}, want {}", got[i], want[i])),
        None => Ok(()),
    }
}
