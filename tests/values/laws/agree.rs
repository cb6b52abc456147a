//! Two outcomes of one engine, each within the tolerances of `tests/cases/compare.rs`, so within twice those of each other.

use wgpu_distill::{Reduction, RowResult, Storage, flags};

use super::drawn::Drawn;
use crate::cases::Tolerance;
use crate::cases::compare::{Outcome, at_the_step};
pub use crate::cases::tolerance::close;

/// Of two outcomes, each within the tolerance of the reference.
pub const TOLERANCE: Tolerance = Tolerance::F32.of_two();

/// KDR and TSSR.
pub const UNIT: f64 = TOLERANCE.unit;

fn loss_tolerance(drawn: &Drawn, want: f64, rows: f64) -> f64 {
    TOLERANCE.loss_of_sum(want, drawn.config.temperature_factor(), rows)
}

/// Whether rounding decides if a row's loss is infinite.
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
        // The others say what the logits of a row are like.
        let seen = flags::IGNORED | flags::INVALID_LABEL | flags::NON_FINITE;
        let (got, want) = (g.flags & seen, w.flags & seen);
        if got != want {
            return Err(format!("flags of row {row}: {got}, want {want}"));
        }
    }
    Ok(())
}

/// Loss, KDR and TSSR of two summaries; the loss is `times` that of the other.
pub fn summaries(drawn: &Drawn, got: &Outcome, want: &Outcome, times: f64) -> Result<(), String> {
    let f = f64::from;
    let (g, w) = (&got.summary, &want.summary);
    // A sum of rows may be off by what each of them may be.
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

/// Two gradients `[rows, classes]` in the storage type of the first batch; `weight` is what its `p - y` is multiplied by.
pub fn gradients(drawn: &Drawn, got: &[f32], want: &[f32], weight: f64) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!(
            "{} elements of the gradient, want {}",
            got.len(),
            want.len()
        ));
    }
    // Two units in the last place; below the normal f16 those are no smaller.
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

/// Everything but the bits.
pub fn outcomes(drawn: &Drawn, got: &Outcome, want: &Outcome) -> Result<(), String> {
    row_results(drawn, &got.rows, &want.rows)?;
    summaries(drawn, got, want, 1.0)?;
    gradients(drawn, &got.gradient, &want.gradient, drawn.weight())
}

/// The same in every bit; where not, says by how much.
pub fn same_bits(drawn: &Drawn, got: &Outcome, want: &Outcome) -> Result<(), String> {
    outcomes(drawn, got, want)?;
    let (got, want) = (got.bits(), want.bits());
    match got.iter().zip(&want).position(|(g, w)| g != w) {
        Some(at) => Err(format!("number {at}: {:#x}, want {:#x}", got[at], want[at])),
        None => Ok(()),
    }
}
