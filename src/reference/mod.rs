//! The method in f64 by its textbook formulas. Every kernel is checked against it. METHOD is docs/METHOD.md.
//!
//! It favours readability and differs from the kernels: whole probability vectors, no online sums, no merging, and derivatives of the
//! formulas instead of coefficients. Each kernel has one function here, under the kernel's name.

mod distributions;
mod divergences;
mod list;
mod log_probabilities;
mod metrics;
mod mix;
mod rows;
mod similarity;

use crate::{
    Batch, ClassWeighting, Config, Divergence, Error, Logits, NonFinite, Progress, Reduction,
    Result, Scope, Selection, batch, flags, validate,
};
use distributions::{
    Pair, beside, logits_of, lse, row_temperature, row_values, softmax_row, weighted, x_ln_ratio,
};
use list::List;
use log_probabilities::log_probabilities;
use mix::Row;

pub use metrics::{RowMetrics, mean_metrics};
pub use mix::{margin_share, select_tssr};
pub use rows::{RowResult, RowStats};
pub use similarity::second_sweep;

/// Twin of the kernel `softmax` (METHOD, section 1): `e^(x / temperature) / sum`, `[rows, classes]`.
///
/// NaN for a row with NaN or `+inf`, or with only `-inf`.
pub fn softmax(logits: &Logits<'_>, rows: usize, temperature: f32) -> Result<Vec<f64>> {
    validate::temperature("temperature", temperature)?;
    validate::logits("logits", logits, rows)?;
    let row = |r| softmax_row(&row_values(logits, r, logits.classes), temperature.into());
    Ok((0..rows).flat_map(row).collect())
}

/// The divergence of the student's probabilities `p` from the teacher's `q`, given by the logarithms of both.
pub fn divergence(divergence: Divergence, log_p: &[f64], log_q: &[f64], label: usize) -> f64 {
    let beside = beside(divergence, [log_p, log_q], [1.0; 2], label);
    let pair = Pair::of(log_p, log_q, label).with(&beside);
    divergences::value(divergence, pair)
}

/// The derivative of the divergence with respect to the student's logits over their temperature; NaN where there is none.
pub fn divergence_gradient(
    divergence: Divergence,
    log_p: &[f64],
    log_q: &[f64],
    label: usize,
) -> Vec<f64> {
    let beside = beside(divergence, [log_p, log_q], [1.0; 2], label);
    let pair = Pair::of(log_p, log_q, label).with(&beside);
    divergences::gradient(divergence, pair)
}

/// Twin of the kernel `observe` (METHOD, section 3): the metrics of every row. It flags labels out of range and does not refuse them.
pub fn observe(config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
    validate::shapes(config, batch)?;
    Ok((0..batch.rows())
        .map(|row| stats_of(config, batch, row))
        .collect())
}

fn stats_of(config: &Config, batch: &Batch<'_>, row: usize) -> RowStats {
    let label = batch.labels[row];
    let mut stats = RowStats {
        student_lse: 0.0,
        teacher_lse: 0.0,
        kl: 0.0,
        teacher_entropy: 0.0,
        kdr: 0.0,
        flags: 0,
    };
    if label == config.ignore_index {
        stats.flags = flags::IGNORED;
        return stats;
    }
    // A denominator of 0 states that no row has a label.
    let no_labels = config.reduction == Reduction::SumOver(0.0);
    if no_labels || valid_rows(&[label], batch.classes(), config.ignore_index) == 0 {
        stats.flags = flags::INVALID_LABEL;
    }
    let weights_are_finite =
        batch.row_weight(row).is_finite() && class_weights_are_valid(config, batch, label);
    let [student, teacher] = logits_of(config, batch, row);
    let temperature = |base, logits: &[f64]| row_temperature(config, base, logits);
    let student_temperature = temperature(config.student_temperature, &student);
    let teacher_temperature = temperature(config.teacher_temperature, &teacher);
    stats.student_lse = lse(&student, student_temperature);
    let list = List::of(config, batch, row);
    let sampled = config.divergence.is_sampled();
    let (teacher_lse, no_teacher) = match sampled {
        true => (f64::NAN, teacher[0].is_nan() || teacher[0] == f64::INFINITY),
        // The list is normalised.
        false if list.is_some() => (0.0, list.is_some_and(|list| !list.is_finite())),
        false => {
            let lse = lse(&teacher, teacher_temperature);
            (lse, lse.is_nan())
        }
    };
    stats.teacher_lse = teacher_lse;
    let in_range = |y| batch::check_soft_label(row, y).is_ok();
    let in_range = weights_are_finite && batch.soft_label(row).is_none_or(in_range);
    if stats.student_lse.is_nan() || no_teacher || !in_range {
        stats.flags |= flags::NON_FINITE;
        stats.kdr = f64::NAN;
        return stats;
    }
    if sampled {
        // Nothing of the teacher's row is known.
        (stats.kl, stats.teacher_entropy) = (f64::NAN, f64::NAN);
        return stats;
    }
    let [log_p, log_q] = log_probabilities(config, batch, row);
    stats.kl = divergence(Divergence::ForwardKl, &log_p, &log_q, 0);
    stats.teacher_entropy = log_q.iter().map(|log_q| -x_ln_ratio(*log_q, 0.0)).sum();
    stats.kdr = second_sweep(config.similarity, &log_p, &log_q).clamp(0.0, 1.0);
    stats
}

/// Returns true if the weights of classes that a row uses lie in their range.
fn class_weights_are_valid(config: &Config, batch: &Batch<'_>, label: i32) -> bool {
    let Some(weights) = batch.class_weights else {
        return true;
    };
    let valid = |v: &f32| (0.0..=1e6).contains(v);
    let all = config.class_weighting != ClassWeighting::Hard || config.label_smoothing > 0.0;
    match all {
        true => weights.iter().all(valid),
        false => usize::try_from(label)
            .ok()
            .and_then(|label| weights.get(label))
            .is_none_or(valid),
    }
}

/// Twin of the kernel `merge_row_stats` (METHOD, section 3): the metrics of a row from those of its segments. KDR is NaN because
/// it is not a function of the segments' KDR.
pub fn merge_row_stats(segments: &[RowStats]) -> RowStats {
    let merged = |of: fn(&RowStats) -> f64| lse(&segments.iter().map(of).collect::<Vec<_>>(), 1.0);
    let student_lse = merged(|s| s.student_lse);
    let teacher_lse = merged(|s| s.teacher_lse);
    let (mut kl, mut teacher_entropy, mut flags) = (0.0, 0.0, 0);
    for segment in segments {
        // The segment's share of the teacher's and of the student's probability.
        let log_q = segment.teacher_lse - teacher_lse;
        let log_p = segment.student_lse - student_lse;
        kl += log_q.exp() * (segment.kl + log_q - log_p);
        teacher_entropy += log_q.exp() * (segment.teacher_entropy - log_q);
        flags |= segment.flags;
    }
    RowStats {
        student_lse,
        teacher_lse,
        kl,
        teacher_entropy,
        kdr: f64::NAN,
        flags,
    }
}

/// The batch's outcome in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The reduced loss.
    pub loss: f64,
    /// Mean KDR over the rows that are valid and finite.
    pub kdr: f64,
    /// Mean TSSR over the same rows.
    pub tssr: f64,
    /// Rows whose label is a class.
    pub valid_rows: u32,
    /// Rows whose label is `ignore_index`.
    pub ignored_rows: u32,
    /// Rows whose label is neither a class nor `ignore_index`.
    pub invalid_labels: u32,
    /// Rows without a finite result.
    pub non_finite_rows: u32,
}

/// Twin of the kernel `valid_rows` (METHOD, section 6): the number of labels that are a class and not `ignore_index`.
pub fn valid_rows(labels: &[i32], classes: usize, ignore_index: i32) -> u32 {
    let valid = |l: &i32| *l != ignore_index && *l >= 0 && (*l as usize) < classes;
    labels.iter().copied().filter(valid).count() as u32
}

fn denominator(reduction: Reduction, valid_rows: u32) -> f64 {
    match reduction {
        Reduction::None | Reduction::Sum => 1.0,
        Reduction::Mean => f64::from(valid_rows.max(1)),
        // No row is valid.
        Reduction::SumOver(0.0) => 1.0,
        Reduction::SumOver(d) => f64::from(d),
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Twin of the kernel `summary` (METHOD, sections 6 and 7): the reduced loss, means and counts.
pub fn summary(rows: &[RowResult], reduction: Reduction) -> Summary {
    let count = |bit: u32| rows.iter().filter(|r| r.flags & bit != 0).count() as u32;
    let valid_rows = rows.iter().filter(|r| r.counts()).count() as u32;
    let averaged = || rows.iter().filter(|r| r.is_averaged());
    Summary {
        loss: rows.iter().map(|r| r.loss).sum::<f64>() / denominator(reduction, valid_rows),
        kdr: mean(averaged().map(|r| r.kdr)),
        tssr: mean(averaged().map(|r| r.tssr)),
        valid_rows,
        ignored_rows: count(flags::IGNORED),
        invalid_labels: count(flags::INVALID_LABEL),
        non_finite_rows: count(flags::NON_FINITE | flags::SKIPPED),
    }
}

/// The loss of a finite row with a class for a label, with temperature scaling, before its weight and reduction (METHOD, sections 2 and 6).
pub fn row_loss(config: &Config, batch: &Batch<'_>, row: usize, tssr: f64) -> f64 {
    Row::new(config, batch, row).loss(config, tssr)
}

/// A row's loss within the bounds of the configuration.
fn clamped(config: &Config, loss: f64) -> f64 {
    match config.loss_clamp {
        Some([least, greatest]) => loss.clamp(least.into(), greatest.into()),
        None => loss,
    }
}

/// Twin of the kernel `decide` (METHOD, sections 5 and 6): KDR, TSSR and loss of every row from its metrics. The loss is 0 for
/// ignored rows, and NaN for rows with an invalid label or without a finite result. A row's weight multiplies it. A row whose loss is infinite and has no derivative is
/// flagged `NO_GRADIENT`, one outside of the bounds `CLAMPED`. `NonFinite::Skip` leaves both kinds of rows out, with 0 for all results.
pub fn decide(
    config: &Config,
    progress: Progress,
    batch: &Batch<'_>,
    row_stats: &[RowStats],
) -> Result<Vec<RowResult>> {
    validate::shapes(config, batch)?;
    validate::progress(config.selection, progress)?;
    validate::row_count("row_stats", batch.rows(), row_stats.len())?;
    let mean_kdr = mean(row_stats.iter().filter(|s| s.flags == 0).map(|s| s.kdr));
    let decide_row = |(row, stats): (usize, &RowStats)| {
        let kdr = match config.scope {
            Scope::Row => stats.kdr,
            Scope::Batch => mean_kdr,
            Scope::Given(kdr) => f64::from(kdr),
        };
        let tstr = f64::from(progress.tstr());
        let tssr = match config.selection {
            Selection::Margin(threshold) => {
                let [_, teacher] = logits_of(config, batch, row);
                let temperature = row_temperature(config, config.teacher_temperature, &teacher);
                margin_share(threshold.into(), &teacher, temperature, batch.labels[row])
            }
            other => select_tssr(other, tstr, kdr),
        };
        let mut result = RowResult {
            loss: f64::NAN,
            kdr: stats.kdr,
            tssr,
            tssr_slope: 0.0,
            flags: stats.flags,
        };
        if stats.flags & flags::IGNORED != 0 {
            (result.loss, result.tssr) = (0.0, 0.0);
        } else if stats.flags & flags::NON_FINITE != 0 {
            result.tssr = f64::NAN;
        } else if stats.flags == 0 {
            let weight = f64::from(batch.row_weight(row));
            let row = Row::new(config, batch, row);
            let loss = row.loss(config, tssr);
            let clamped = clamped(config, loss);
            result.loss = weighted(weight, clamped);
            result.tssr_slope = mix::tssr_slope(config, tstr, kdr);
            let has_gradient = || row.gradient(config, tssr, result.tssr_slope).is_some();
            if clamped != loss {
                result.flags = flags::CLAMPED;
            } else if result.loss.is_infinite() && !has_gradient() {
                result.flags = flags::NO_GRADIENT;
            }
        }
        let broken = result.flags & (flags::NON_FINITE | flags::NO_GRADIENT) != 0;
        if broken && config.non_finite == NonFinite::Skip && result.counts() {
            (result.loss, result.kdr, result.tssr) = (0.0, 0.0, 0.0);
            result.flags |= flags::SKIPPED;
        }
        result
    };
    Ok(row_stats.iter().enumerate().map(decide_row).collect())
}

/// Twin of the kernel `apply` (METHOD, sections 2 and 6): the gradient `[rows, classes]` for the TSSR of every row. It is 0 for
/// rows that are ignored, left out or clamped, and NaN for rows with an invalid label, without a finite result or without a derivative.
pub fn apply(config: &Config, batch: &Batch<'_>, decisions: &[RowResult]) -> Result<Vec<f64>> {
    validate::shapes(config, batch)?;
    validate::row_count("decisions", batch.rows(), decisions.len())?;
    let valid = decisions.iter().filter(|d| d.counts()).count() as u32;
    let scale = f64::from(config.grad_loss) / denominator(config.reduction, valid);
    let elements = validate::elements(batch.rows(), batch.classes())?;
    let mut gradient = Vec::new();
    let room = gradient.try_reserve_exact(elements);
    room.map_err(|_| Error::no_room(elements.saturating_mul(size_of::<f64>())))?;
    for (row, decision) in decisions.iter().enumerate() {
        let of_row = match decision.flags {
            0 => Row::new(config, batch, row).gradient(config, decision.tssr, decision.tssr_slope),
            _ => None,
        };
        match of_row {
            Some(of_row) => {
                let scale = scale * f64::from(batch.row_weight(row));
                gradient.extend(of_row.into_iter().map(|g| scale * g));
            }
            None if batch.row_weight(row) == 0.0 && decision.flags == 0 => {
                gradient.resize(gradient.len() + batch.classes(), 0.0);
            }
            None => {
                let left_out =
                    decision.flags & (flags::IGNORED | flags::SKIPPED | flags::CLAMPED) != 0;
                let value = if left_out { 0.0 } else { f64::NAN };
                gradient.resize(gradient.len() + batch.classes(), value);
            }
        }
    }
    Ok(gradient)
}

/// The whole method's outcome in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Distillation {
    /// The batch's outcome.
    pub summary: Summary,
    /// Each row's outcome.
    pub rows: Vec<RowResult>,
    /// Each row's metrics.
    pub metrics: Vec<RowMetrics>,
    /// `[rows, classes]`
    pub grad_student_logits: Vec<f64>,
}

/// Twin of the kernel `distill` (METHOD, section 2): all steps. Like the kernel, it flags labels out of range and does not refuse them.
pub fn distill(config: &Config, progress: Progress, batch: &Batch<'_>) -> Result<Distillation> {
    let stats = observe(config, batch)?;
    let rows = decide(config, progress, batch, &stats)?;
    let of_row = |(row, result)| metrics::of_row(config, batch, row, &stats[row], result);
    let metrics = rows.iter().enumerate().map(of_row).collect();
    Ok(Distillation {
        metrics,
        summary: summary(&rows, config.reduction),
        grad_student_logits: apply(config, batch, &rows)?,
        rows,
    })
}
