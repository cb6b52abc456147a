//! Checks of a teacher that is a list of classes with their log-probabilities.

use crate::{Batch, Config, Error, Result, Selection, Standardization, TeacherTail};

/// Most entries of a row's list.
pub(crate) const MOST_ENTRIES: usize = 1024;

/// Most classes of a student beside a list. The kernels keep a class and its entry in one word.
const MOST_CLASSES: u64 = 1 << 20;

/// Refuses whatever needs the teacher's whole row, or has no terms of a list.
pub(crate) fn choices(config: &Config, beside: Beside) -> Result<()> {
    let refuse = |what: String, why| {
        let what = format!("`teacher_ids` with {what}");
        Err(Error::Unsupported { what, why })
    };
    let rule = config.divergence.rule();
    if rule.label_apart || rule.sampled {
        return refuse(
            format!("the divergence `{}`", config.divergence),
            "it needs the teacher's probability of the label, which may be off the list; use another divergence",
        );
    }
    if matches!(config.selection, Selection::Margin(_)) {
        return refuse(
            format!("the selection `{}`", config.selection),
            "it needs the teacher's probability of the label, which may be off the list; use another selection",
        );
    }
    if config.joins_masks() {
        return refuse(
            "`MaskedClasses::Both`".to_owned(),
            "it needs the teacher's whole row",
        );
    }
    if config.standardization != Standardization::None {
        return refuse(
            "`Standardization::ZScore`".to_owned(),
            "the standard deviation is that of a whole row of logits",
        );
    }
    if config.teacher_tail == TeacherTail::Ghost && config.teacher_temperature != 1.0 {
        return refuse(
            format!("`teacher_temperature` {}", config.teacher_temperature),
            "the rest of the probability has no other temperature; give log-probabilities at the teacher's temperature, or use `TeacherTail::Renormalized`",
        );
    }
    for (present, name) in [
        (beside.class_weights, "`class_weights`"),
        (beside.soft_labels, "`soft_labels`"),
        (beside.metrics, "metrics of rows"),
    ] {
        if present {
            return refuse(name.to_owned(), "no kernel has both; use one of them");
        }
    }
    Ok(())
}

/// The parts of a call that a list excludes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Beside {
    pub class_weights: bool,
    pub soft_labels: bool,
    pub metrics: bool,
}

/// Checks the sizes of a list: `k` entries a row.
pub(crate) fn sizes(classes: usize, k: usize) -> Result<()> {
    let what = "the number of a row's entries in `teacher_ids`";
    super::within(what, k as u64, MOST_ENTRIES.min(classes) as u64)?;
    let what = "the number of classes beside `teacher_ids`";
    super::within(what, classes as u64, MOST_CLASSES)
}

/// Checks the shape of the list of a batch, and the choices beside it.
pub(super) fn of_batch(config: &Config, batch: &Batch<'_>) -> Result<()> {
    let Some(ids) = batch.teacher_ids else {
        return Ok(());
    };
    let k = batch.teacher_logits.classes;
    let expected = super::elements(batch.rows(), k)?;
    if ids.len() != expected {
        let got = ids.len();
        return Err(Error::TeacherIds { k, expected, got });
    }
    let beside = Beside {
        class_weights: batch.class_weights.is_some(),
        soft_labels: batch.soft_labels.is_some(),
        metrics: false,
    };
    choices(config, beside)
}

/// Checks the entries of a row's list.
pub(super) fn of_row(batch: &Batch<'_>, row: usize) -> Result<()> {
    let Some(ids) = batch.ids(row) else {
        return Ok(());
    };
    let classes = batch.classes();
    for &id in ids {
        if id != EMPTY && !crate::batch::is_class(id, classes) {
            return Err(Error::TeacherIdOutOfRange { row, id, classes });
        }
    }
    let ids = ids.iter().filter(|id| **id != EMPTY);
    let entry = |id: &i32| Entry {
        class: *id as u32,
        teacher: 0.0,
    };
    let mut entries: Vec<Entry> = ids.map(entry).collect();
    sort_by_class(&mut entries);
    let twice = entries
        .windows(2)
        .find(|pair| pair[0].class == pair[1].class);
    match twice {
        Some(pair) => Err(Error::TeacherIdTwice {
            row,
            id: pair[0].class as i32,
        }),
        None => Ok(()),
    }
}

/// An entry of a row's list: a class and the teacher's log-probability.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub class: u32,
    pub teacher: f32,
}

pub(crate) fn sort_by_class(entries: &mut [Entry]) {
    entries.sort_unstable_by_key(|entry| entry.class);
}

/// An empty place of a list.
pub(crate) const EMPTY: i32 = -1;

/// Refuses a list with classes in shards.
pub(crate) fn no_list(given: bool) -> Result<()> {
    if given {
        return Err(Error::Unsupported {
            what: "`teacher_ids` with classes in shards".to_owned(),
            why: "the list may have classes of every shard; give the teacher's logits of the shard instead",
        });
    }
    Ok(())
}

/// Refuses metrics of rows beside a list.
pub(crate) fn metrics(config: &Config, batch: &Batch<'_>, metrics: bool) -> Result<()> {
    let beside = Beside {
        metrics,
        ..Beside::default()
    };
    match batch.teacher_ids {
        Some(_) => choices(config, beside),
        None => Ok(()),
    }
}
