//! Checks of arguments, before anything runs. Every engine uses them.

mod class_weights;
mod factors;
pub(crate) mod listed;
mod masks;
pub(crate) mod sampled;
pub(crate) mod shards;
pub(crate) mod soft_labels;
mod standardized;

use std::ops::Range;

pub(crate) use crate::config::temperature;

use crate::config::require;
use crate::rule::Shape;
use crate::{
    Batch, Config, Error, GradWrite, HardTemperature, Logits, OutputsMut, Progress, Reduction,
    Result, RowStats, Scope, Selection, Similarity, TeacherClasses, TssrGradient, batch,
};

pub(crate) use class_weights::{class_weighting, no_class_weights};
pub(crate) use factors::mean;

pub(crate) fn config(config: &Config) -> Result<()> {
    temperature("student_temperature", config.student_temperature)?;
    temperature("teacher_temperature", config.teacher_temperature)?;
    config.selection.check()?;
    config.divergence.check()?;
    if let HardTemperature::Own(own) = config.hard_temperature {
        config.hard_temperature.check()?;
        for (field, other) in [
            (
                "hard_temperature / student_temperature",
                config.student_temperature,
            ),
            (
                "hard_temperature / teacher_temperature",
                config.teacher_temperature,
            ),
        ] {
            let ratio = own / other;
            let ok = (1e-6..=1e6).contains(&ratio);
            require(ok, field, ratio, "a number between 1e-6 and 1e6")?;
        }
    }
    for (field, weight) in [
        ("hard_weight", config.hard_weight),
        ("soft_weight", config.soft_weight),
    ] {
        let ok = weight == 0.0 || (1e-6..=1e6).contains(&weight);
        require(ok, field, weight, "0, or a number between 1e-6 and 1e6")?;
    }
    let z = config.z_loss;
    let ok = z == 0.0 || (1e-9..=1e3).contains(&z);
    require(ok, "z_loss", z, "0, or a number between 1e-9 and 1e3")?;
    config.scope.check()?;
    config.reduction.check()?;
    let e = config.label_smoothing;
    let ok = (0.0..1.0).contains(&e);
    require(ok, "label_smoothing", e, "a number in [0, 1)")?;
    if let Some([least, greatest]) = config.loss_clamp {
        let ok = least.is_finite() && greatest.is_finite() && least < greatest;
        if !ok {
            return Err(Error::InvalidConfig {
                field: "loss_clamp",
                value: format!("[{least}, {greatest}]"),
                expected: "two finite numbers, the first below the second",
            });
        }
    }
    let g = config.grad_loss;
    require(g.is_finite(), "grad_loss", g, "a finite number")?;
    sampled::choices(config)?;
    attached(config)?;
    standardized::check(config)?;
    masks::check(config)?;
    factors::check(config)
}

/// Refuses an attached TSSR where its gradient does not fit into the sweeps of the kernels.
fn attached(config: &Config) -> Result<()> {
    if config.tssr_gradient == TssrGradient::Detached {
        return Ok(());
    }
    let refuse = |what: String, why| Err(Error::Unsupported { what, why });
    if matches!(
        config.similarity,
        Similarity::JensenShannon | Similarity::Overlap
    ) {
        return refuse(
            format!(
                "`TssrGradient::Attached` with the similarity `{}`",
                config.similarity
            ),
            "it needs a similarity of one sweep: `Cosine`, `Bhattacharyya` or `ExpNegKl`",
        );
    }
    if config.scope != Scope::Row {
        return refuse(
            "`TssrGradient::Attached` with a scope other than `Row`".to_owned(),
            "TSSR then depends on other rows or on a given number; use `Scope::Row`",
        );
    }
    if config.divergence.rule().label_apart {
        return refuse(
            format!(
                "`TssrGradient::Attached` with the divergence `{}`",
                config.divergence
            ),
            "the label has a gradient of its own there; use another divergence",
        );
    }
    let shape = config.divergence.rule().shape;
    if shape != Shape::Plain && config.similarity != Similarity::ExpNegKl {
        return refuse(
            format!(
                "`TssrGradient::Attached` with `{}` and the divergence `{}`",
                config.similarity, config.divergence
            ),
            "a kernel adds the terms of one of them; use `SoftCrossEntropy`, `ForwardKl` or the similarity `ExpNegKl`",
        );
    }
    Ok(())
}

pub(crate) fn progress(selection: Selection, progress: Progress) -> Result<()> {
    let Progress { step, total } = progress;
    if progress == Progress::NONE {
        if selection.needs_progress() {
            let selection = selection.to_string();
            return Err(Error::ProgressNeeded { selection });
        }
        return Ok(());
    }
    if total == 0 || step > total {
        return Err(Error::InvalidProgress { step, total });
    }
    Ok(())
}

/// The number of elements from the first of a matrix to its last, or an overflow error.
pub(crate) fn extent(rows: usize, classes: usize, row_stride: usize) -> Result<usize> {
    if rows == 0 {
        return Ok(0);
    }
    (rows - 1)
        .checked_mul(row_stride)
        .and_then(|n| n.checked_add(classes))
        .ok_or(Error::LimitExceeded {
            what: "rows times row_stride, in elements",
            needed: u64::MAX,
            limit: usize::MAX as u64,
        })
}

/// Refuses a number above its limit.
pub(crate) fn within(what: &'static str, needed: u64, limit: u64) -> Result<()> {
    match needed <= limit {
        true => Ok(()),
        false => Err(Error::LimitExceeded {
            what,
            needed,
            limit,
        }),
    }
}

/// Checks that classes, stride and rows fit the kernels' 32-bit indices. All engines have the same limits.
pub(crate) fn shape(name: &'static str, rows: usize, classes: usize, stride: usize) -> Result<()> {
    if classes == 0 {
        return Err(Error::ZeroClasses { name });
    }
    if stride < classes {
        return Err(Error::RowStrideTooSmall {
            name,
            row_stride: stride,
            classes,
        });
    }
    within("the number of rows", rows as u64, i32::MAX as u64)?;
    within("the number of classes", classes as u64, 1 << 28)?;
    within("the row stride, in elements,", stride as u64, 1 << 28)
}

/// Checks the byte range `region` of a buffer that the kernels read or write.
pub(crate) fn region(
    name: &'static str,
    region: Range<u64>,
    alignment: u64,
    buffer_bytes: u64,
) -> Result<()> {
    if !region.start.is_multiple_of(alignment) {
        return Err(Error::BufferMisaligned {
            name,
            offset: region.start,
            alignment,
        });
    }
    // A binding may end a few bytes after the region.
    if region.end > buffer_bytes.min(u64::MAX - 64) {
        return Err(Error::BufferTooSmall {
            name,
            needed: region.end,
            got: buffer_bytes,
        });
    }
    Ok(())
}

/// The number of elements of a matrix without gaps between its rows, or an overflow error.
pub(crate) fn elements(rows: usize, classes: usize) -> Result<usize> {
    extent(rows, classes, classes)
}

/// Checks the caller's memory for results.
fn outputs(batch: &Batch<'_>, outputs: &OutputsMut<'_>) -> Result<()> {
    let (rows, classes) = (batch.rows(), batch.classes());
    if let Some(results) = &outputs.rows {
        row_count("rows", rows, results.len())?;
    }
    if let Some(metrics) = &outputs.metrics {
        row_count("metrics", rows, metrics.len())?;
    }
    let Some(gradient) = &outputs.gradient else {
        return Ok(());
    };
    shape("gradient", rows, gradient.classes, gradient.row_stride)?;
    if gradient.classes != classes {
        let got = gradient.classes;
        return Err(Error::GradientShape { classes, got });
    }
    length(
        "gradient",
        rows,
        classes,
        gradient.row_stride,
        gradient.values.len(),
    )
}

/// Refuses row results beside metrics: an item of the metrics has both.
pub(crate) fn results_twice() -> Error {
    Error::Unsupported {
        what: "`row_results` beside `row_metrics`".to_owned(),
        why: "each `RowReport` of `row_metrics` begins with the row's result; use one of them",
    }
}

/// Refuses `GradWrite::Accumulate` for a call that returns a new gradient.
pub(crate) fn new_gradient(config: &Config) -> Result<()> {
    if config.grad_write == GradWrite::Accumulate {
        return Err(Error::Unsupported {
            what: "`GradWrite::Accumulate`".to_owned(),
            why: "this call returns a new gradient; pass memory to add it to with `run_into`",
        });
    }
    Ok(())
}

pub(crate) fn row_count(name: &'static str, rows: usize, got: usize) -> Result<()> {
    if got != rows {
        return Err(Error::RowCount { name, rows, got });
    }
    Ok(())
}

/// Checks the number of elements of a matrix. The gap after the last row may be missing. No elements may follow it.
fn length(
    name: &'static str,
    rows: usize,
    classes: usize,
    row_stride: usize,
    got: usize,
) -> Result<()> {
    let needed = extent(rows, classes, row_stride)?;
    if got < needed {
        return Err(Error::SliceTooSmall { name, needed, got });
    }
    // No slice is longer than `usize::MAX`.
    let limit = rows.saturating_mul(row_stride);
    if got > limit {
        return Err(Error::SliceTooLarge {
            name,
            rows,
            row_stride,
            limit,
            got,
        });
    }
    Ok(())
}

pub(crate) fn logits(name: &'static str, logits: &Logits<'_>, rows: usize) -> Result<()> {
    let (classes, row_stride) = (logits.classes, logits.row_stride);
    shape(name, rows, classes, row_stride)?;
    length(name, rows, classes, row_stride, logits.values.len())
}

fn classes(config: &Config, student: usize, teacher: usize) -> Result<()> {
    if config.divergence.is_sampled() {
        return sampled::teacher(config, teacher);
    }
    if student != teacher && config.teacher_classes == TeacherClasses::SameAsStudent {
        return Err(Error::ShapeMismatch { student, teacher });
    }
    Ok(())
}

/// Checks the numbers of classes of student and teacher, or the sizes of the teacher's list.
pub(crate) fn teacher(
    config: &Config,
    student: usize,
    teacher: usize,
    is_list: bool,
) -> Result<()> {
    match is_list {
        true => listed::sizes(student, teacher),
        false => classes(config, student, teacher),
    }
}

/// Checks a call on slices: configuration, shapes, strides and lengths.
pub(crate) fn shapes(config: &Config, batch: &Batch<'_>) -> Result<()> {
    self::config(config)?;
    let rows = batch.rows();
    logits("student_logits", &batch.student_logits, rows)?;
    logits("teacher_logits", &batch.teacher_logits, rows)?;
    beside_logits(config, batch)
}

/// Checks the shapes of a batch but for the elements of its logits.
pub(crate) fn beside_logits(config: &Config, batch: &Batch<'_>) -> Result<()> {
    let rows = batch.rows();
    let is_list = batch.teacher_ids.is_some();
    teacher(
        config,
        batch.classes(),
        batch.teacher_logits.classes,
        is_list,
    )?;
    listed::of_batch(config, batch)?;
    soft_labels::of_batch(config, batch)?;
    if let Some(weights) = batch.row_weights {
        row_count("row_weights", rows, weights.len())?;
    }
    class_weights::of_batch(config, batch)?;
    mean(config, rows)
}

/// Checks a call on slices: [`shapes`], every label, the soft labels and weights of rows with a label, and the weights of classes.
pub(crate) fn batch(config: &Config, batch: &Batch<'_>) -> Result<()> {
    shapes(config, batch)?;
    rows(config, batch, batch.classes())
}

impl Batch<'_> {
    /// Checks configuration, shape, labels, soft labels, weights and lists, but neither the number of logits nor a logit: for hosts whose
    /// logits are elsewhere.
    ///
    /// # Errors
    /// Those of [`Engine::run`](crate::Engine::run), but for logits, progress and outputs.
    pub fn check_rows(&self, config: &Config) -> Result<()> {
        self::config(config)?;
        for (name, logits) in [
            ("student_logits", &self.student_logits),
            ("teacher_logits", &self.teacher_logits),
        ] {
            shape(name, self.rows(), logits.classes, logits.row_stride)?;
        }
        beside_logits(config, self)?;
        rows(config, self, self.classes())
    }
}

/// Checks labels, soft labels and weights of a batch whose labels are below `classes`. No logit is read.
pub(crate) fn rows(config: &Config, batch: &Batch<'_>, classes: usize) -> Result<()> {
    class_weights::range(batch)?;
    let zero = config.reduction == Reduction::SumOver(0.0);
    for (row, &label) in batch.labels.iter().enumerate() {
        if label == config.ignore_index {
            continue;
        }
        if !batch::is_class(label, classes) {
            return Err(Error::LabelOutOfRange {
                row,
                label,
                classes,
            });
        }
        if zero {
            return Err(Error::ZeroDenominator { row, label });
        }
        let weight = batch.row_weight(row);
        if !weight.is_finite() {
            return Err(Error::RowWeight { row, weight });
        }
        soft_labels::of_row(batch, row)?;
        listed::of_row(batch, row)?;
    }
    Ok(())
}

/// Checks a call on slices that returns a new gradient.
pub(crate) fn new_run(config: &Config, progress: Progress, batch: &Batch<'_>) -> Result<()> {
    self::batch(config, batch)?;
    self::progress(config.selection, progress)?;
    new_gradient(config)
}

/// Checks a call on slices that writes to the caller's memory.
pub(crate) fn run_into(
    config: &Config,
    progress: Progress,
    batch: &Batch<'_>,
    outputs: &OutputsMut<'_>,
) -> Result<()> {
    self::batch(config, batch)?;
    self::progress(config.selection, progress)?;
    self::outputs(batch, outputs)
}

/// Checks the statistics for `decide`. `classes` is the student's number of classes.
pub(crate) fn row_stats(config: &Config, stats: &[RowStats], classes: usize) -> Result<()> {
    self::config(config)?;
    shape("row_stats", stats.len(), classes, classes)?;
    mean(config, stats.len())?;
    soft_labels::of_stats(config, stats)?;
    shards::are_whole(stats)?;
    match stats.iter().position(RowStats::counts) {
        Some(row) if config.reduction == Reduction::SumOver(0.0) => {
            let label = stats[row].label;
            Err(Error::ZeroDenominator { row, label })
        }
        _ => Ok(()),
    }
}
