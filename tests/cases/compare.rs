//! Comparison with the f64 reference, within the tolerances of the design.

use wgpu_distill::half::{bf16, f16};
use wgpu_distill::{
    Batch, Config, Divergence, GradWrite, Logits, RowMetrics, RowResult, SmoothedClasses,
    Standardization, Storage, Summary, TssrGradient, flags, reference,
};

use super::case::{Case, TeacherList, Weights};
use super::inputs::Kind;
use super::tolerance::{Tolerance, close, gradient_weight, is_close, loss_factor};

/// An engine's results, with the gradient widened to f32, `[rows, classes]`.
pub struct Outcome {
    pub summary: Summary,
    pub rows: Vec<RowResult>,
    /// Empty if the way of the call has none.
    pub metrics: Vec<RowMetrics>,
    pub gradient: Vec<f32>,
}

impl Outcome {
    /// Every bit of summary, rows and gradient.
    pub fn bits(&self) -> Vec<u32> {
        let s = &self.summary;
        let mut bits = vec![s.loss.to_bits(), s.kdr.to_bits(), s.tssr.to_bits()];
        bits.extend([
            s.valid_rows,
            s.ignored_rows,
            s.invalid_labels,
            s.non_finite_rows,
        ]);
        for r in &self.rows {
            bits.extend([r.loss.to_bits(), r.kdr.to_bits(), r.tssr.to_bits(), r.flags]);
        }
        for metrics in self.metrics.iter().chain([&s.metrics]) {
            bits.extend(values(metrics).map(f32::to_bits));
        }
        bits.extend(self.gradient.iter().map(|x| x.to_bits()));
        bits
    }
}

/// Metrics in the order of their fields.
fn values(m: &RowMetrics) -> [f32; 10] {
    [
        m.forward_kl,
        m.teacher_entropy,
        m.student_entropy,
        m.hard,
        m.soft,
        m.student_lse,
        m.teacher_lse,
        m.agreement,
        m.student_accuracy,
        m.teacher_accuracy,
    ]
}

/// Compares metrics of rows and their means, if there are any.
/// The rows of `lost`, whose infinities are finite in f32, are left out.
fn check_metrics(
    case: &Case,
    want: &reference::Distillation,
    got: &Outcome,
    lost: &[usize],
) -> Result<(), String> {
    if got.metrics.is_empty() {
        let none = RowMetrics::default();
        let same = got.summary.metrics == none;
        return same.then_some(()).ok_or("means of metrics".to_owned());
    }
    if got.metrics.len() != case.rows {
        return Err(format!("metrics of {} rows", got.metrics.len()));
    }
    let tolerance = tolerance_of(case);
    let factor = loss_factor(&case.config).max(1.0);
    let means = reference::mean_metrics(&want.rows, &want.metrics);
    let rows = got.metrics.iter().zip(&want.metrics).enumerate();
    let rows = rows.filter(|(row, _)| !lost.contains(row));
    let rows = rows.map(|(row, (g, w))| (format!("of row {row}"), g, w));
    let summary = ("of the summary".to_owned(), &got.summary.metrics, &means);
    let all = rows.chain(lost.is_empty().then_some(summary));
    for (whose, g, w) in all {
        for (i, (g, w)) in values(g).into_iter().zip(w.values()).enumerate() {
            let about = format!("metric {i} {whose}");
            close(&about, f64::from(g), w, factor * tolerance.statistic(w))?;
        }
    }
    Ok(())
}

/// The tolerances of a case.
fn tolerance_of(case: &Case) -> Tolerance {
    match case.kind {
        Kind::Peaked => Tolerance::PEAKED,
        _ => Tolerance::F32,
    }
}

/// Returns true if exactly one of two losses is infinite because rounding made its weight 0 or not.
///
/// A weight of 0 removes an infinite term. Distributions without a common class have a KDR of 0 or 1e-7, depending on rounding.
pub fn at_the_step(losses: [f64; 2], shares: [f64; 2], tolerance: f64) -> bool {
    let [a, b] = shares;
    let near = |edge: f64| (a == edge) != (b == edge) && (a - b).abs() <= tolerance;
    let infinite = losses.map(|loss| loss == f64::INFINITY);
    let known = losses.iter().all(|loss| !loss.is_nan());
    known && infinite[0] != infinite[1] && (near(0.0) || near(1.0))
}

/// Flags that depend only on logits, label and share. The others depend on rounding.
pub const FLAGS: u32 = flags::IGNORED
    | flags::INVALID_LABEL
    | flags::NON_FINITE
    | flags::NO_GRADIENT
    | flags::SKIPPED
    | flags::CLAMPED;

/// Returns true if a row's loss is infinite in f64 and finite in f32, or the reverse, because a sum of exponentials is 0 in f32 (METHOD,
/// section 8): the mass of the classes that only the student has, or the sum over the classes of TAID's mixture.
pub fn is_lost(
    config: &Config,
    batch: &Batch<'_>,
    row: usize,
    want: &reference::RowResult,
) -> bool {
    const LEAST: f64 = 2e-38;
    let logits = [&batch.student_logits, &batch.teacher_logits];
    let temperatures = [config.student_temperature, config.teacher_temperature];
    // The distances of a row's logits from their maximum.
    let [ds, dt] = [0, 1].map(|side| {
        let value = |i| match i < logits[side].classes {
            true => f64::from(logits[side].values.get(row * logits[side].row_stride + i)),
            false => f64::NEG_INFINITY,
        };
        let values: Vec<f64> = (0..batch.classes()).map(value).collect();
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let distance = |x: f64| (x - max) / f64::from(temperatures[side]);
        values.into_iter().map(distance).collect::<Vec<_>>()
    });
    let both = ds.iter().zip(&dt);
    match config.divergence {
        Divergence::ReverseKl | Divergence::KlSum { .. } if want.flags == flags::NO_GRADIENT => {
            let unseen = both.filter(|(_, dt)| **dt == f64::NEG_INFINITY);
            unseen.map(|(ds, _)| ds.exp()).sum::<f64>() < LEAST
        }
        Divergence::Taid { share } if want.flags == 0 => {
            let share = f64::from(share);
            let cross = both.map(|(ds, dt)| (share * dt + (1.0 - share) * ds).exp());
            cross.sum::<f64>() < LEAST
        }
        _ => false,
    }
}

/// The magnitude of each row's weight, 1 where it is not finite, times the largest weight of a class.
fn magnitudes_of_weights(case: &Case) -> Vec<f64> {
    let of_classes = case.class_weights().unwrap_or_default();
    let of_classes = of_classes.into_iter().fold(1.0, f32::max);
    let weights = case.row_weights().unwrap_or_else(|| vec![1.0; case.rows]);
    let finite = |w: f32| if w.is_finite() { w.abs() } else { 1.0 };
    let magnitude = |w: f32| f64::from(finite(w)) * f64::from(of_classes);
    weights.into_iter().map(magnitude).collect()
}

/// Compares an outcome with the reference. The error names the first difference.
pub fn check(case: &Case, want: &reference::Distillation, got: &Outcome) -> Result<(), String> {
    let tolerance = tolerance_of(case);
    let weights = magnitudes_of_weights(case);
    if got.rows.len() != case.rows {
        return Err(format!("{} row results", got.rows.len()));
    }
    let mut summary = want.summary;
    let mut lost = Vec::new();
    for (row, (g, w)) in got.rows.iter().zip(&want.rows).enumerate() {
        let losses = [f64::from(g.loss), w.loss];
        let factor = loss_factor(&case.config) * weights[row];
        let at_the_step = at_the_step(losses, [f64::from(g.tssr), w.tssr], tolerance.unit);
        let infinite = losses.map(|loss| loss == f64::INFINITY);
        let is_lost = infinite[0] != infinite[1] && {
            let host = case.host();
            is_lost(&case.config, &host.batch(), row, w)
        };
        if is_lost {
            lost.push(row);
        }
        if (at_the_step || is_lost) && !summary.loss.is_nan() && !got.summary.loss.is_nan() {
            summary.loss = f64::from(got.summary.loss);
        }
        let same = |flags| flags & if is_lost { !flags::NO_GRADIENT } else { !0 };
        if same(g.flags & FLAGS) != same(w.flags) {
            return Err(format!(
                "flags of row {row}: {:#x}, want {:#x}",
                g.flags, w.flags
            ));
        }
        for (name, g, w, allowed) in [
            ("loss", g.loss, w.loss, tolerance.loss(w.loss, factor)),
            ("kdr", g.kdr, w.kdr, tolerance.unit),
            ("tssr", g.tssr, w.tssr, tolerance.unit),
        ] {
            let excused = (at_the_step || is_lost) && name == "loss";
            if !excused {
                close(&format!("{name} of row {row}"), f64::from(g), w, allowed)?;
            }
        }
    }
    check_summary(case, want, &summary, &got.summary)?;
    check_metrics(case, want, got, &lost)?;
    check_gradient(case, want, &got.gradient, &lost)?;
    check_masked(case, want, &got.gradient)
}

/// A class that both sides mask has probability exactly 0 on both.
///
/// Its gradient is the smoothing term alone, which is equal for all such classes of equal weight.
fn check_masked(case: &Case, want: &reference::Distillation, got: &[f32]) -> Result<(), String> {
    let masks = [Kind::MaskedBoth, Kind::MaskedButLast, Kind::OneHot];
    // The logits of a list are not those of the classes at their places.
    let listed = case.teacher_list != TeacherList::None;
    if !masks.contains(&case.kind) || listed || case.config.grad_write == GradWrite::Accumulate {
        return Ok(());
    }
    let smoothed = case.config.label_smoothing > 0.0;
    if smoothed && case.class_weights != Weights::None {
        return Ok(());
    }
    let (n, labels) = (case.classes, case.labels());
    let [student, teacher] = case.logits();
    for (row, result) in want.rows.iter().enumerate() {
        if result.flags != 0 {
            continue;
        }
        let is_masked = |i: &usize| {
            let both = match case.config.divergence.is_sampled() {
                true => student[row * n + i],
                false => student[row * n + i].max(teacher[row * n + i]),
            };
            both == f32::NEG_INFINITY && *i as i32 != labels[row]
        };
        let masked = (0..n).filter(is_masked).map(|i| got[row * n + i]);
        let mut values: Vec<u32> = masked.map(|g| (g + 0.0).to_bits()).collect();
        values.dedup();
        let smoothed = case.config.label_smoothing > 0.0
            && case.config.smoothed_classes == SmoothedClasses::All;
        if values.len() > 1 || (!smoothed && values.iter().any(|g| *g != 0)) {
            return Err(format!("gradient of the masked classes of row {row}"));
        }
    }
    Ok(())
}

fn check_summary(
    case: &Case,
    want: &reference::Distillation,
    w: &reference::Summary,
    g: &Summary,
) -> Result<(), String> {
    let tolerance = tolerance_of(case);
    let denominator = case.config.reduction.denominator(w.valid_rows);
    let magnitude: f64 = want.rows.iter().map(|r| r.loss.abs()).sum();
    let (magnitude, rows) = (
        magnitude / denominator,
        f64::from(w.valid_rows.max(1)) / denominator,
    );
    let largest = magnitudes_of_weights(case).into_iter().fold(1.0, f64::max);
    let allowed = tolerance.loss_of_sum(magnitude, loss_factor(&case.config) * largest, rows);
    close("summary loss", f64::from(g.loss), w.loss, allowed)?;
    close("summary kdr", f64::from(g.kdr), w.kdr, tolerance.unit)?;
    close("summary tssr", f64::from(g.tssr), w.tssr, tolerance.unit)?;
    let got = [
        g.valid_rows,
        g.ignored_rows,
        g.invalid_labels,
        g.non_finite_rows,
    ];
    let want = [
        w.valid_rows,
        w.ignored_rows,
        w.invalid_labels,
        w.non_finite_rows,
    ];
    if got != want {
        return Err(format!("counts {got:?}, want {want:?}"));
    }
    Ok(())
}

/// The initial value of a gradient element for accumulation.
pub fn before(index: usize) -> f32 {
    // The last value is a subnormal of f16.
    [0.5, -0.25, 0.0, 1.0 / 131_072.0][index % 4]
}

/// The rows of `lost` are left out.
fn check_gradient(
    case: &Case,
    want: &reference::Distillation,
    got: &[f32],
    lost: &[usize],
) -> Result<(), String> {
    let n = case.classes;
    if got.len() != case.rows * n {
        return Err(format!("{} gradient elements", got.len()));
    }
    let mut weight = gradient_weight(&case.config, want.summary.valid_rows);
    if case.config.standardization == Standardization::ZScore && case.classes == 1 {
        // The z-score of the only class divides by 1e-7.
        weight *= 1e7;
    }
    let host = case.host();
    let further = further_weights(&case.config, &host.batch(), want);
    let weights = magnitudes_of_weights(case);
    for row in (0..case.rows).filter(|row| !lost.contains(row)) {
        let weight = (weight + further.get(row).unwrap_or(&0.0)) * weights[row];
        let want = &want.grad_student_logits[row * n..(row + 1) * n];
        let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let tolerance = tolerance_of(case).gradient(largest, weight);
        for (i, (&g, &exact)) in got[row * n..(row + 1) * n].iter().zip(want).enumerate() {
            let index = row * n + i;
            let exact = match case.config.grad_write {
                GradWrite::Accumulate => exact + f64::from(before(index)),
                _ => exact,
            };
            let ok = match case.storage[2] {
                Storage::F32 => is_close(f64::from(g), exact, tolerance + 1e-7 * exact.abs()),
                storage => stored_close(g, exact, tolerance, storage),
            };
            if !ok {
                return Err(format!(
                    "gradient of row {row}, class {i}: {g}, want {exact} (tolerance {tolerance:e})"
                ));
            }
        }
    }
    Ok(())
}

/// The factor of further terms of each row's gradient, which cancel like `p - y`; empty if there are none.
pub fn further_weights(
    config: &Config,
    batch: &Batch<'_>,
    want: &reference::Distillation,
) -> Vec<f64> {
    let attached = config.tssr_gradient == TssrGradient::Attached;
    // `p ln(p / q)` and `KL(p, q) p` are each as large as the divergence, as are both terms of a sampled token.
    let as_large = config.divergence.is_sampled()
        || matches!(
            config.divergence,
            Divergence::ReverseKl | Divergence::KlSum { .. }
        );
    if !attached && !as_large && config.z_loss == 0.0 {
        return Vec::new();
    }
    let scale =
        f64::from(config.grad_loss.abs()) / config.reduction.denominator(want.summary.valid_rows);
    let of_row = |(row, result): (usize, &reference::RowResult)| {
        if result.flags != 0 {
            return 0.0;
        }
        let part = |tssr| match reference::row_loss(config, batch, row, tssr) {
            loss if loss.is_finite() => loss,
            _ => 0.0,
        };
        let mut weight = 0.0;
        if as_large {
            weight += part(0.0).abs();
        }
        // The difference of the parts multiplies the slope of KDR.
        weight += result.tssr_slope * (part(1.0) - part(0.0)).abs();
        weight /= f64::from(config.student_temperature);
        // The log-sum-exp multiplies `h`.
        let logits = &batch.student_logits;
        let value = |i| f64::from(logits.values.get(row * logits.row_stride + i).abs());
        let finite = (0..logits.classes).map(value).filter(|x| x.is_finite());
        let lse =
            finite.fold(0.0, f64::max) / config.label_temperature() + (logits.classes as f64).ln();
        weight + 2.0 * f64::from(config.z_loss) * lse / config.label_temperature()
    };
    let rows = want.rows.iter().enumerate().map(of_row);
    rows.map(|weight| weight * scale).collect()
}

/// Returns true if the value is within one unit in the last place of the rounded f64 value, or within the f32 tolerance.
fn stored_close(got: f32, exact: f64, tolerance: f64, storage: Storage) -> bool {
    if exact.is_nan() || got.is_nan() {
        return exact.is_nan() && got.is_nan();
    }
    let (rounded, ulps) = match storage {
        Storage::F16 => {
            let r = f16::from_f64(exact);
            (
                r.to_f32(),
                ordered(r.to_bits()).abs_diff(ordered(f16::from_f32(got).to_bits())),
            )
        }
        _ => {
            let r = bf16::from_f64(exact);
            (
                r.to_f32(),
                ordered(r.to_bits()).abs_diff(ordered(bf16::from_f32(got).to_bits())),
            )
        }
    };
    ulps <= 1 || is_close(f64::from(got), f64::from(rounded), tolerance)
}

/// The bits of a 16-bit float as an integer with the same order as the numbers.
fn ordered(bits: u16) -> i32 {
    let magnitude = i32::from(bits & 0x7fff);
    if bits & 0x8000 == 0 {
        magnitude
    } else {
        -magnitude
    }
}
