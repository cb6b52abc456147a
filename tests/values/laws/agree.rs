//! Comparison of two results of one engine. Each is within the tolerances of `tests/cases/compare.rs`, so they differ by at most twice those.

use wgpu_distill::{Reduction, RowResult, Storage};

use super::drawn::Drawn;
use crate::cases::Tolerance;
use crate::cases::compare::{FLAGS, Outcome, at_the_step};
pub use crate::cases::tolerance::close;
use crate::cases::tolerance::loss_factor;

/// The tolerance between two outcomes that are each within the tolerance of the reference.
pub const TOLERANCE: Tolerance = Tolerance::F32.of_two();

/// The tolerance of KDR and TSSR.
pub const UNIT: f64 = TOLERANCE.unit;

fn loss_tolerance(drawn: &Drawn, want: f64, rows: f64) -> f64 {
    TOLERANCE.loss_of_sum(want, loss_factor(&drawn.config), rows)
}

/// Returns true if rounding decides that a row's loss is infinite.
fn hangs_on_rounding(got: &RowResult, want: &RowResult) -> bool {
    let both = |f: fn(&RowResult) -> f32| [got, want].map(|r| f64::from(f(r)));
    at_the_step(both(|r| r.loss), both(|r| r.tssr), UNIT)
}

pub fn row_results(drawn: &Drawn, got: &[RowResult], want: &[RowResult]) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} rows, want {}", got.len(), want.len()));
    }
    for (row, (g, w)) in got.iter().zip(want).enumerate() {
        let f = f64::from;
        let loss = loss_tolerance(drawn, f(w.loss), 1.0);
        if !hangs_on_rounding(g, w) {
            close(&format!("loss of row {row}"), f(g.loss), f(w.loss), loss)?;
        }
        close(&format!("kdr of row {row}"), f(g.kdr), f(w.kdr), UNIT)?;
        close(&format!("tssr of row {row}"), f(g.tssr), f(w.tssr), UNIT)?;
        // The other flags depend on rounding; these depend only on the logits and the label.
        let seen = FLAGS;
        let (got, want) = (g.flags & seen, w.flags & seen);
        if got != want {
            return Err(format!("flags of row {row}: {got}, want {want}"));
        }
    }
    Ok(())
}

/// Compares loss, KDR and TSSR of two summaries. The loss of `got` must be `times` that of `want`.
pub fn summaries(drawn: &Drawn, got: &Outcome, want: &Outcome, times: f64) -> Result<(), String> {
    let f = f64::from;
    let (g, w) = (&got.summary, &want.summary);
    // The error bound of a sum is the sum of the rows' bounds.
    let magnitude: f64 = want.rows.iter().map(|r| f(r.loss.abs())).sum();
    let rows = want.rows.len() as f64;
    let tolerance = loss_tolerance(
        drawn,
        if magnitude.is_finite() {
            magnitude
        } else {
            1.0
        },
        rows,
    );
    let denominator = match drawn.config.reduction {
        Reduction::Mean => rows,
        Reduction::SumOver(d) => f(d),
        _ => 1.0,
    };
    let tolerance = times * tolerance / denominator;
    let mut rows = got.rows.iter().zip(&want.rows);
    if !rows.any(|(got, want)| hangs_on_rounding(got, want)) {
        close("summary loss", f(g.loss), times * f(w.loss), tolerance)?;
    }
    close("summary kdr", f(g.kdr), f(w.kdr), UNIT)?;
    close("summary tssr", f(g.tssr), f(w.tssr), UNIT)
}

/// Compares two gradients `[rows, classes]` in the storage type of the first batch. `weight` is the factor of `p - y`.
pub fn gradients(drawn: &Drawn, got: &[f32], want: &[f32], weight: f64) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!(
            "{} elements of the gradient, want {}",
            got.len(),
            want.len()
        ));
    }
    // Two units in the last place. Subnormal f16 numbers have a fixed unit.
    let (ulps, least) = match drawn.storage[2] {
        Storage::F32 => (2e-7, 0.0),
        Storage::F16 => (2.0 / 1024.0, 2.0 / f64::from(1 << 24)),
        Storage::Bf16 => (2.0 / 128.0, 0.0),
    };
    let n = drawn.classes;
    for (row, (g, w)) in got.chunks(n).zip(want.chunks(n)).enumerate() {
        let largest = w.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
        let tolerance = TOLERANCE.gradient(largest, weight) + least;
        for (i, (g, w)) in g.iter().zip(w).enumerate() {
            let (g, w) = (f64::from(*g), f64::from(*w));
            let about = format!("gradient of row {row}, class {i}");
            close(&about, g, w, tolerance + ulps * w.abs())?;
        }
    }
    Ok(())
}

/// Compares everything within tolerances.
pub fn outcomes(drawn: &Drawn, got: &Outcome, want: &Outcome) -> Result<(), String> {
    row_results(drawn, &got.rows, &want.rows)?;
    summaries(drawn, got, want, 1.0)?;
    gradients(drawn, &got.gradient, &want.gradient, drawn.weight())
}

/// Compares every bit. The error names the first difference.
pub fn same_bits(drawn: &Drawn, got: &Outcome, want: &Outcome) -> Result<(), String> {
    outcomes(drawn, got, want)?;
    let (got, want) = (got.bits(), want.bits());
    match got.iter().zip(&want).position(|(g, w)| g != w) {
        Some(at) => Err(format!("number {at}: {:#x}, want {:#x}", got[at], want[at])),
        None => Ok(()),
    }
}
