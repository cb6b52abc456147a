//! Allowed differences of f32 results, computed from the rounding of each row's values.
//!
//! If a result depends on values that f32 cannot represent, only NaN is checked.

use crate::cases::Tolerance;
use wgpu_distill::{Batch, Config, Scope, Selection, Standardization, reference};

/// The tolerances of one row. `None` allows any value except NaN.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    pub loss: Option<f64>,
    pub kdr: Option<f64>,
    pub tssr: Option<f64>,
}

/// KDR and TSSR; the peaks of the inputs have no bound.
const UNIT: f64 = Tolerance::PEAKED.unit;
const LOSS: f64 = Tolerance::F32.loss_absolute;
/// Larger distances, before or after division by the temperature, may be clamped or overflow; see `observe_checked` in the shaders.
const FAR: f64 = 1e36;
/// Smaller probabilities count as 0.
const LEAST: f64 = 2e-38;

fn distances(value: impl Fn(usize) -> f64, classes: usize, temperature: f32) -> Vec<f64> {
    let max = (0..classes).map(&value).fold(f64::NEG_INFINITY, f64::max);
    let t = f64::from(temperature);
    (0..classes).map(|i| (value(i) - max) / t).collect()
}

/// Divides the distances by the standard deviation of those that are finite, plus 1e-7. Returns false if one is so large that it saturates.
fn standardize(distances: &mut [f64], temperature: f32) -> bool {
    let t = f64::from(temperature);
    let live: Vec<f64> = distances
        .iter()
        .filter(|d| d.is_finite())
        .map(|d| d * t)
        .collect();
    let count = live.len() as f64;
    let mean = live.iter().sum::<f64>() / count;
    let squares: f64 = live.iter().map(|d| (d - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0).max(1.0)).sqrt() + 1e-7;
    distances.iter_mut().for_each(|d| *d /= deviation);
    live.iter().all(|d| d.abs() < 1e13)
}

/// The tolerances of a finite row whose label is a class.
pub fn of_row(config: &Config, batch: &Batch<'_>, row: usize, tssr: f64) -> Allowed {
    let classes = batch.classes();
    let (s, t) = (&batch.student_logits, &batch.teacher_logits);
    let student = |i: usize| f64::from(s.values.get(row * s.row_stride + i));
    let teacher = |i: usize| match i < t.classes {
        true => f64::from(t.values.get(row * t.row_stride + i)),
        false => f64::NEG_INFINITY,
    };
    let mut ds = distances(student, classes, config.student_temperature);
    let mut dt = distances(teacher, classes, config.teacher_temperature);
    if config.standardization == Standardization::ZScore {
        let [s, t] = [config.student_temperature, config.teacher_temperature];
        if !(standardize(&mut ds, s) & standardize(&mut dt, t)) {
            return Allowed {
                loss: None,
                kdr: None,
                tssr: None,
            };
        }
    }
    let sum = |d: &[f64]| d.iter().map(|d| d.exp()).sum::<f64>();
    let (zs, zt) = (sum(&ds), sum(&dt));
    let e = f64::from(config.label_smoothing);
    let finite = |d: f64| d > f64::NEG_INFINITY;
    // Sums of distances must not overflow either.
    let times = f64::from(config.student_temperature).max(1.0) * classes as f64;
    let is_far = |d: f64| finite(d) && d.abs() * times > FAR;

    // The error of KL and of the soft cross-entropy. Each distance and each probability has an error of a few units in its last place.
    let (mut soft, mut error, mut lost) = (0.0, LOSS, false);
    for (ds, dt) in ds.iter().zip(&dt).filter(|(_, dt)| finite(**dt)) {
        let q = dt.exp() / zt;
        if !finite(*ds) {
            // An infinite term in exact arithmetic that is missing in f32.
            lost |= q < LEAST;
            continue;
        }
        let size = ds.abs() + dt.abs();
        soft -= q * (ds - zs.ln());
        error += q * size * 4e-7 * (2.0 + dt.abs());
        if q < LEAST {
            error += 2.0 * q * size;
        }
        lost |= is_far(*ds) && q > 0.0;
    }
    let label = batch.labels[row] as usize;
    let mut hard = zs.ln() - ds[label];
    let mut hard_lost = is_far(ds[label]);
    if e > 0.0 {
        let mean = ds.iter().sum::<f64>() / classes as f64;
        hard = (1.0 - e) * hard + e * (zs.ln() - mean);
        hard_lost |= ds.iter().any(|d| is_far(*d));
    }
    let kl = (soft
        - dt.iter()
            .filter(|d| finite(**d))
            .map(|d| d.exp() / zt * -(d - zt.ln()))
            .sum::<f64>())
    .max(0.0);
    let unit = match config.similarity {
        wgpu_distill::Similarity::ExpNegKl if lost => None,
        wgpu_distill::Similarity::ExpNegKl => Some(UNIT + (-kl).exp() * error.exp_m1().min(1.0)),
        _ => Some(UNIT),
    };
    let hangs = !matches!(
        (config.selection, config.scope),
        (Selection::Tstr | Selection::Fixed(_), _) | (_, Scope::Given(_))
    ) || matches!(config.selection, Selection::Margin(_));
    let share = if hangs { unit } else { Some(1e-7) };
    let factor = config.temperature_factor();
    let loss = share.and_then(|share| {
        // A weight that may or may not be 0, of a term that is infinite or beyond f32.
        let near_0 = |share_of: f64| share_of.abs() < 2.0 * share;
        let infinite = [hard, soft].iter().any(|x| !x.is_finite() || *x > FAR)
            || lost
            || hard_lost
            || (e > 0.0 && ds.iter().any(|d| !finite(*d)))
            || ds.iter().zip(&dt).any(|(s, t)| !finite(*s) && finite(*t));
        if lost && tssr < 1.0 || hard_lost && tssr > 0.0 {
            return None;
        }
        if infinite && hangs && (near_0(tssr) || near_0(1.0 - tssr)) {
            return None;
        }
        let apart = if infinite { 0.0 } else { (hard - soft).abs() };
        Some(factor * (error + share * apart + LOSS * (hard.min(1e300) + 1.0)))
    });
    Allowed {
        loss,
        kdr: unit,
        tssr: share,
    }
}

/// The reference's values, for a message.
pub fn describe(want: &reference::RowResult, allowed: &Allowed) -> String {
    format!("want {want:?}, allowed {allowed:?}")
}
