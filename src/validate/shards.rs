//! Checks of slices of the classes.

use super::{class_weights, listed};
use crate::{Batch, Config, Error, Result, RowStats, Shard, Standardization, flags};

/// Refuses a configuration whose statistics do not merge.
pub(crate) fn choices(config: &Config) -> Result<()> {
    super::config(config)?;
    standardization(config)
}

/// Refuses standardised logits.
pub(crate) fn standardization(config: &Config) -> Result<()> {
    match config.standardization {
        Standardization::None => Ok(()),
        Standardization::ZScore => Err(Error::Unsupported {
            what: "`Standardization::ZScore` with classes in shards".to_owned(),
            why: "each device would need the standard deviation of the whole row first; standardise the logits before the call",
        }),
    }
}

/// Checks a step on a slice: configuration, shapes, every label, the soft labels and weights of rows with a label.
pub(crate) fn batch(config: &Config, batch: &Batch<'_>, shard: Shard) -> Result<()> {
    choices(config)?;
    inputs(batch.class_weights.is_some(), batch.teacher_ids.is_some())?;
    let (own, teacher) = (batch.classes(), batch.teacher_logits.classes);
    teacher_columns(config, own, teacher)?;
    super::shapes(config, batch)?;
    range(shard, batch.rows(), own)?;
    super::rows(config, batch, shard.classes)
}

/// Refuses inputs that have no place in the statistics of a slice.
pub(crate) fn inputs(class_weights: bool, teacher_list: bool) -> Result<()> {
    class_weights::no_class_weights(class_weights)?;
    listed::no_list(teacher_list)
}

/// Refuses a teacher whose slice has other classes than the student's.
pub(crate) fn teacher_columns(config: &Config, own: usize, teacher: usize) -> Result<()> {
    if teacher != own && !config.divergence.is_sampled() {
        return Err(Error::Unsupported {
            what: format!(
                "a teacher with {teacher} columns beside a student with {own}, with classes in shards"
            ),
            why: "a slice has the same classes of both; give the teacher's missing classes the logit `-inf`",
        });
    }
    Ok(())
}

/// Checks the place of `own` columns among all classes.
pub(crate) fn range(shard: Shard, rows: usize, own: usize) -> Result<()> {
    let Shard {
        first_class,
        classes,
    } = shard;
    super::shape("shard", rows, classes, classes)?;
    if first_class.saturating_add(own) > classes {
        return Err(Error::ShardRange {
            first_class,
            own,
            classes,
        });
    }
    Ok(())
}

/// Refuses the statistics of shards where those of whole rows are needed.
pub(super) fn are_whole(stats: &[RowStats]) -> Result<()> {
    match stats.iter().position(|s| s.flags & flags::SHARD != 0) {
        None => Ok(()),
        Some(row) => Err(Error::Shards {
            row,
            why: "its statistics are not finished; use `finish_shards`".to_owned(),
        }),
    }
}
