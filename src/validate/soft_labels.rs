//! Checks of soft labels.

use crate::{Batch, Config, Error, Result, RowStats, Selection, Standardization, batch};

/// Checks the shape of the soft labels of a batch, and the choices beside them.
pub(super) fn of_batch(config: &Config, batch: &Batch<'_>) -> Result<()> {
    let Some(soft_labels) = &batch.soft_labels else {
        return Ok(());
    };
    super::logits("soft_labels", soft_labels, batch.rows())?;
    classes(batch.classes(), soft_labels.classes)?;
    choices(config, batch.class_weights.is_some())
}

/// Checks the numbers of a row's soft label.
pub(super) fn of_row(batch: &Batch<'_>, row: usize) -> Result<()> {
    match batch.soft_label(row) {
        Some(soft_label) => batch::check_soft_label(row, soft_label),
        None => Ok(()),
    }
}

/// Checks the choices for statistics of rows with soft labels. They do not have weights of classes.
pub(super) fn of_stats(config: &Config, stats: &[RowStats]) -> Result<()> {
    match stats.iter().any(RowStats::has_soft_label) {
        true => choices(config, false),
        false => Ok(()),
    }
}

/// Checks that a row of soft labels has every class of the student.
pub(crate) fn classes(classes: usize, got: usize) -> Result<()> {
    match got == classes {
        true => Ok(()),
        false => Err(Error::SoftLabelShape { classes, got }),
    }
}

/// Refuses whatever needs one label, or has no terms of a soft label.
pub(crate) fn choices(config: &Config, class_weights: bool) -> Result<()> {
    let refuse = |what: String, why| {
        let what = format!("`soft_labels` with {what}");
        Err(Error::Unsupported { what, why })
    };
    let rule = config.divergence.rule();
    if rule.label_apart {
        return refuse(
            format!("the divergence `{}`", config.divergence),
            "it leaves the class of one label out of its sums; use another divergence",
        );
    }
    if rule.sampled {
        return refuse(
            format!("the divergence `{}`", config.divergence),
            "its label is the sampled token; use a divergence of whole rows",
        );
    }
    if matches!(config.selection, Selection::Margin(_)) {
        return refuse(
            format!("the selection `{}`", config.selection),
            "the margin is that of one label; use another selection",
        );
    }
    if class_weights {
        return refuse(
            "`class_weights`".to_owned(),
            "no kernel multiplies a soft label by them; use one of them",
        );
    }
    if config.standardization != Standardization::None {
        return refuse(
            "`Standardization::ZScore`".to_owned(),
            "the gradient through the standard deviation has no terms of a soft label; use one of them",
        );
    }
    Ok(())
}
