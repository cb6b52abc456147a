//! The method in f64 by its textbook formulas. Every kernel is checked against it. METHOD is docs/METHOD.md.
//!
//! It favours readability and differs from the kernels: whole probability vectors, no online sums, no merging.
//! Each kernel has one function here, under the kernel's name.

use crate::{
    Batch, Config, Error, Logits, Progress, Reduction, Result, Scope, Selection, Similarity, flags,
    validate,
};

/// Twin of the kernel `softmax` (METHOD, section 1): `e^(x / temperature) / sum`, `[rows, classes]`.
///
/// NaN for a row with NaN or `+inf`, or with only `-inf`.
pub fn softmax(logits: &Logits<'_>, rows: usize, temperature: f32) -> Result<Vec<f64>> {
    validate::temperature("temperature", temperature)?;
    validate::logits("logits", logits, rows)?;
    let row = |r| softmax_row(&row_values(logits, r, logits.classes), temperature);
    Ok((0..rows).flat_map(row).collect())
}

/// `ln softmax`; NaN for a row without a finite result. Subtracts the maximum first: a common offset of 1e30 would take all digits of f64.
fn log_softmax_row(x: &[f64], temperature: f32) -> Vec<f64> {
    let max = max(x);
    let z: Vec<f64> = x
        .iter()
        .map(|x| (x - max) / f64::from(temperature))
        .collect();
    let log_sum = z.iter().map(|z| z.exp()).sum::<f64>().ln();
    z.into_iter().map(|z| z - log_sum).collect()
}

fn softmax_row(x: &[f64], temperature: f32) -> Vec<f64> {
    log_softmax_row(x, temperature)
        .into_iter()
        .map(f64::exp)
        .collect()
}

/// The largest logit of a row; NaN if it is not finite or any logit is NaN.
fn max(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if x.iter().any(|x| x.is_nan()) || !max.is_finite() {
        return f64::NAN;
    }
    max
}

/// `ln sum e^(x / temperature)`
fn lse(x: &[f64], temperature: f32) -> f64 {
    let (max, temperature) = (max(x), f64::from(temperature));
    let sum: f64 = x.iter().map(|x| ((x - max) / temperature).exp()).sum();
    max / temperature + sum.ln()
}

/// `n` logits of a row in f64; classes that the row lacks count as `-inf`.
fn row_values(logits: &Logits<'_>, row: usize, n: usize) -> Vec<f64> {
    let value = |i| {
        if i < logits.classes {
            f64::from(logits.values.get(row * logits.row_stride + i))
        } else {
            f64::NEG_INFINITY
        }
    };
    (0..n).map(value).collect()
}

/// Metrics of one row of student and teacher (METHOD, section 3).
#[derive(Clone, Debug, PartialEq)]
pub struct RowStats {
    /// `ln sum e^s` with `s` the student's logits over its temperature.
    pub student_lse: f64,
    /// `ln sum e^t` with `t` the teacher's logits over its temperature.
    pub teacher_lse: f64,
    /// `KL(q, p) = sum q ln(q / p)`
    pub kl: f64,
    /// The teacher's entropy, `- sum q ln q`.
    pub teacher_entropy: f64,
    /// The similarity, in `[0, 1]`; 0 for ignored rows.
    pub kdr: f64,
    /// `IGNORED`, `INVALID_LABEL` and `NON_FINITE` of [`flags`].
    pub flags: u32,
}

/// Twin of the kernel `observe` (METHOD, section 3): the metrics of every row. It flags labels out of range and does not refuse them.
pub fn observe(config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
    validate::shapes(config, batch)?;
    Ok((0..batch.rows())
        .map(|row| stats_of(config, batch, row))
        .collect())
}

fn pair(batch: &Batch<'_>, row: usize) -> (Vec<f64>, Vec<f64>) {
    let classes = batch.classes();
    let s = row_values(&batch.student_logits, row, classes);
    let t = row_values(&batch.teacher_logits, row, classes);
    (s, t)
}

/// `x ln(x / y)`; 0 if `x` is 0.
fn x_ln_ratio(x: f64, ln_x: f64, ln_y: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x * (ln_x - ln_y) }
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
    let (s, t) = pair(batch, row);
    stats.student_lse = lse(&s, config.student_temperature);
    stats.teacher_lse = lse(&t, config.teacher_temperature);
    if stats.student_lse.is_nan() || stats.teacher_lse.is_nan() {
        stats.flags |= flags::NON_FINITE;
        stats.kdr = f64::NAN;
        return stats;
    }
    let log_p = log_softmax_row(&s, config.student_temperature);
    let log_q = log_softmax_row(&t, config.teacher_temperature);
    for (log_p, log_q) in log_p.iter().zip(&log_q) {
        let q = log_q.exp();
        stats.kl += x_ln_ratio(q, *log_q, *log_p);
        stats.teacher_entropy -= x_ln_ratio(q, *log_q, 0.0);
    }
    stats.kl = stats.kl.max(0.0);
    stats.kdr = second_sweep(config.similarity, &log_p, &log_q).clamp(0.0, 1.0);
    stats
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

/// Twin of the kernel `second_sweep` and of the one-sweep similarities of `observe` (METHOD, section 4): the similarity of two
/// distributions, given by the logarithms of their probabilities.
pub fn second_sweep(similarity: Similarity, log_p: &[f64], log_q: &[f64]) -> f64 {
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        log_p.iter().zip(log_q).map(|(p, q)| f(*p, *q)).sum()
    };
    match similarity {
        Similarity::Cosine => {
            let pq = sum(&|p, q| p.exp() * q.exp());
            let pp = sum(&|p, _| p.exp() * p.exp());
            let qq = sum(&|_, q| q.exp() * q.exp());
            pq / (pp * qq).sqrt()
        }
        Similarity::Bhattacharyya => sum(&|p, q| (p.exp() * q.exp()).sqrt()),
        Similarity::ExpNegKl => (-sum(&|p, q| x_ln_ratio(q.exp(), q, p)).max(0.0)).exp(),
        Similarity::JensenShannon => {
            let divergence = sum(&|p, q| {
                // Halved after the logarithm, because half of the smallest f64 rounds to 0.
                let log_mean = (p.exp() + q.exp()).ln() - std::f64::consts::LN_2;
                0.5 * (x_ln_ratio(p.exp(), p, log_mean) + x_ln_ratio(q.exp(), q, log_mean))
            });
            1.0 - divergence / std::f64::consts::LN_2
        }
        Similarity::Overlap => sum(&|p, q| p.exp().min(q.exp())),
    }
}

/// One row's outcome in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowResult {
    /// Before reduction, with temperature scaling.
    pub loss: f64,
    /// In `[0, 1]`.
    pub kdr: f64,
    /// In `[0, 1]`.
    pub tssr: f64,
    /// `IGNORED`, `INVALID_LABEL` and `NON_FINITE` of [`flags`].
    pub flags: u32,
}

impl RowResult {
    fn counts(&self) -> bool {
        self.flags & (flags::IGNORED | flags::INVALID_LABEL) == 0
    }

    fn is_averaged(&self) -> bool {
        self.counts() && self.flags & flags::NON_FINITE == 0
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
        non_finite_rows: count(flags::NON_FINITE),
    }
}

/// TSSR from TSTR and KDR (METHOD, section 5).
pub fn select_tssr(selection: Selection, tstr: f64, kdr: f64) -> f64 {
    match selection {
        Selection::Max => tstr.max(kdr),
        Selection::Min => tstr.min(kdr),
        Selection::Mean => (tstr + kdr) / 2.0,
        Selection::Product => tstr * kdr,
        Selection::Tstr => tstr,
        Selection::Kdr => kdr,
        Selection::Fixed(w) => f64::from(w),
    }
}

/// `ln p` of a row, and its target `y = tssr EK + (1 - tssr) STK`.
fn log_p_and_target(
    config: &Config,
    batch: &Batch<'_>,
    row: usize,
    tssr: f64,
) -> (Vec<f64>, Vec<f64>) {
    let (s, t) = pair(batch, row);
    let mut y = softmax_row(&t, config.teacher_temperature);
    let (e, classes) = (f64::from(config.label_smoothing), y.len());
    for (i, y) in y.iter_mut().enumerate() {
        let one_hot = f64::from(i as i64 == i64::from(batch.labels[row]));
        let truth = (1.0 - e) * one_hot + e / classes as f64;
        *y = tssr * truth + (1.0 - tssr) * *y;
    }
    (log_softmax_row(&s, config.student_temperature), y)
}

/// `- sum y ln p` of a finite row with a class for a label, with temperature scaling (METHOD, sections 2 and 6). A `y` of 0
/// contributes 0 even if `p` is 0.
pub fn row_loss(config: &Config, batch: &Batch<'_>, row: usize, tssr: f64) -> f64 {
    let (log_p, y) = log_p_and_target(config, batch, row, tssr);
    let terms = log_p.iter().zip(&y).filter(|(_, y)| **y > 0.0);
    config.temperature_factor() * terms.map(|(log_p, y)| -y * log_p).sum::<f64>()
}

/// Twin of the kernel `decide` (METHOD, sections 5 and 6): KDR, TSSR and loss of every row from its metrics. The loss is 0 for
/// ignored rows, and NaN for rows with an invalid label or without a finite result.
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
        let tssr = select_tssr(config.selection, f64::from(progress.tstr()), kdr);
        let mut result = RowResult {
            loss: f64::NAN,
            kdr: stats.kdr,
            tssr,
            flags: stats.flags,
        };
        if stats.flags & flags::IGNORED != 0 {
            (result.loss, result.tssr) = (0.0, 0.0);
        } else if stats.flags & flags::NON_FINITE != 0 {
            result.tssr = f64::NAN;
        } else if stats.flags == 0 {
            result.loss = row_loss(config, batch, row, tssr);
        }
        result
    };
    Ok(row_stats.iter().enumerate().map(decide_row).collect())
}

/// Twin of the kernel `apply` (METHOD, sections 2 and 6): the gradient `[rows, classes]` for the TSSR of every row. It is 0 for
/// ignored rows, and NaN for rows with an invalid label or without a finite result.
pub fn apply(config: &Config, batch: &Batch<'_>, decisions: &[RowResult]) -> Result<Vec<f64>> {
    validate::shapes(config, batch)?;
    validate::row_count("decisions", batch.rows(), decisions.len())?;
    let valid = decisions.iter().filter(|d| d.counts()).count() as u32;
    let scale = config.gradient_factor() / denominator(config.reduction, valid);
    let elements = validate::elements(batch.rows(), batch.classes())?;
    let mut gradient = Vec::new();
    let room = gradient.try_reserve_exact(elements);
    room.map_err(|_| Error::no_room(elements.saturating_mul(size_of::<f64>())))?;
    for (row, decision) in decisions.iter().enumerate() {
        if decision.flags == 0 {
            let (log_p, y) = log_p_and_target(config, batch, row, decision.tssr);
            gradient.extend(
                log_p
                    .iter()
                    .zip(&y)
                    .map(|(log_p, y)| scale * (log_p.exp() - y)),
            );
        } else {
            let ignored = decision.flags & flags::IGNORED != 0;
            let value = if ignored { 0.0 } else { f64::NAN };
            gradient.resize(gradient.len() + batch.classes(), value);
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
    /// `[rows, classes]`
    pub grad_student_logits: Vec<f64>,
}

/// Twin of the kernel `distill` (METHOD, section 2): all steps. Like the kernel, it flags labels out of range and does not refuse them.
pub fn distill(config: &Config, progress: Progress, batch: &Batch<'_>) -> Result<Distillation> {
    let stats = observe(config, batch)?;
    let rows = decide(config, progress, batch, &stats)?;
    Ok(Distillation {
        summary: summary(&rows, config.reduction),
        grad_student_logits: apply(config, batch, &rows)?,
        rows,
    })
}
