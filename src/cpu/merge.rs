//! The statistics of shards: their merge, in f64 and in the order of the classes, and those of the whole rows. Every engine uses them.

use super::setup::Setup;
use super::similarity;
use super::sums::Sums;
use super::zeros::zeros;
use super::{pool, tasks};
use crate::moments::Moments;
use crate::rule::{SOFT_LABELS, metrics, statistics};
use crate::{Config, Error, Result, RowStats, SweepSums, flags, validate};

/// A configuration's numbers for the sums of single steps, with and without those of soft labels.
struct Merger<'a> {
    setup: Setup<'a>,
    with_soft_labels: Moments,
    without: Moments,
}

impl<'a> Merger<'a> {
    fn new(config: &'a Config) -> Self {
        let setup = Setup::of(config, false);
        // Kernels that report metrics observe their moments too; they are 0 otherwise.
        let sampled = setup.rule.sampled;
        let without = setup
            .moments
            .with(statistics(sampled))
            .with(metrics(sampled));
        Self {
            setup,
            with_soft_labels: without.with(SOFT_LABELS),
            without,
        }
    }

    /// The numbers for rows with these flags.
    fn at(&mut self, flags: u32) -> &Setup<'a> {
        self.setup.moments = match flags & flags::SOFT_LABEL {
            0 => self.without,
            _ => self.with_soft_labels,
        };
        &self.setup
    }
}

/// Statistics that a task merges: about 0.3 ms.
const RECORDS_PER_TASK: usize = 2048;

/// The shards of a row so far.
#[derive(Clone, Copy)]
struct Part {
    /// All but the sums.
    stats: RowStats,
    sums: Sums,
}

impl Part {
    fn of(stats: &RowStats) -> Self {
        Self {
            stats: *stats,
            sums: Sums::read(stats),
        }
    }

    /// Adds the shard whose classes follow.
    fn with(self, next: &RowStats, merger: &mut Merger<'_>) -> Result<Self, String> {
        let own = &self.stats;
        if [own, next].iter().any(|s| s.flags & flags::SHARD == 0) {
            return Err("the statistics of whole rows do not merge".to_owned());
        }
        if next.all_classes == 0 {
            return Ok(self);
        }
        if own.all_classes == 0 {
            return Ok(Self::of(next));
        }
        if own.all_classes != next.all_classes {
            let (a, b) = (own.all_classes, next.all_classes);
            return Err(format!("one is of {a} classes in all, the next of {b}"));
        }
        let end = u64::from(own.first_class) + u64::from(own.shard_classes);
        if end != u64::from(next.first_class) {
            let got = next.first_class;
            return Err(format!(
                "class {end} follows, but the next shard starts at class {got}; give them in the order of their classes"
            ));
        }
        if own.label != next.label {
            let (a, b) = (own.label, next.label);
            return Err(format!("one has the label {a}, the next {b}"));
        }
        let ignored = [own, next].map(|s| s.flags & flags::IGNORED);
        if ignored[0] != ignored[1] {
            return Err("the row is ignored in one of them alone".to_owned());
        }
        let mut stats = *own;
        stats.shard_classes = own.shard_classes.saturating_add(next.shard_classes);
        if ignored[0] != 0 {
            return Ok(Self { stats, ..self });
        }
        let elsewhere = own.flags & next.flags & flags::LABEL_ELSEWHERE;
        if next.flags & flags::LABEL_ELSEWHERE == 0 {
            if own.flags & flags::LABEL_ELSEWHERE == 0 {
                return Err(format!("two have the label {}", own.label));
            }
            stats.label_logit = next.label_logit;
            stats.teacher_label_logit = next.teacher_label_logit;
        }
        let setup = merger.at(own.flags | next.flags);
        let mut sums = self.sums.merged(Sums::read(next), setup);
        sums.flags = (sums.flags & !flags::LABEL_ELSEWHERE) | elsewhere;
        stats.flags = sums.flags;
        Ok(Self { stats, sums })
    }

    /// The sums rounded to f32.
    fn rounded(&self) -> RowStats {
        let mut stats = self.stats;
        if stats.flags & flags::IGNORED == 0 && stats.all_classes != 0 {
            self.sums.write(&mut stats);
        }
        stats
    }
}

/// An error of the shards of a row.
fn refused(row: usize, why: String) -> Error {
    Error::Shards { row, why }
}

impl RowStats {
    /// The statistics of the classes of both, those of `next` right behind those of `self`: a monoid with the identity
    /// [`identity`](Self::identity), computed in f64 and rounded once. The kernels merge the segments of a row by the same rule.
    ///
    /// It is associative within rounding. Only the same order and grouping give the same bits on every device, so let all devices merge the
    /// same list from its first shard to its last. [`merge_shards`] does so and rounds once for all of them.
    ///
    /// # Errors
    /// [`Error::Shards`] unless both are of shards ([`flags::SHARD`]) of one row, and `next` starts where `self` ends.
    pub fn merge(&self, next: &Self, config: &Config) -> Result<Self> {
        validate::shards::choices(config)?;
        let merger = &mut Merger::new(config);
        let merged = Part::of(self).with(next, merger);
        merged
            .map(|part| part.rounded())
            .map_err(|why| refused(0, why))
    }
}

/// Merges the statistics of each row from those of all shards, in the order of their classes. `shards` has a list for each device, with an
/// entry for each row, as `observe_shard` of [`Cpu`](crate::cpu::Cpu) and `Gpu` give them.
///
/// The sums are added from the first shard to the last, in f64, and rounded once. The same lists in the same order give the same bits.
/// Merged lists merge again, so that devices may also merge in a tree.
///
/// # Errors
/// [`Error::Shards`] if a row's shards leave a gap, overlap, or are not of one row; [`Error::RowCount`] for lists of other lengths than the
/// first; [`Error::Unsupported`] and [`Error::InvalidConfig`] for a configuration that is refused in shards.
pub fn merge_shards(config: &Config, shards: &[&[RowStats]]) -> Result<Vec<RowStats>> {
    validate::shards::choices(config)?;
    let Some((first, others)) = shards.split_first() else {
        return Ok(Vec::new());
    };
    for other in others {
        validate::row_count("shards", first.len(), other.len())?;
    }
    let mut merged: Vec<RowStats> = zeros(first.len())?;
    let per_task = (RECORDS_PER_TASK / shards.len()).max(1);
    let tasks: Vec<_> = merged.chunks_mut(per_task).enumerate().collect();
    let done = tasks::run(pool::default_threads(), tasks, |(task, merged)| {
        let mut merger = Merger::new(config);
        for (i, merged) in merged.iter_mut().enumerate() {
            let row = task * per_task + i;
            let start = Part::of(&RowStats::identity());
            let mut all = shards.iter().map(|shard| &shard[row]);
            let part = all.try_fold(start, |part, next| part.with(next, &mut merger));
            *merged = part.map_err(|why| refused(row, why))?.rounded();
        }
        Ok(())
    });
    done.into_iter().collect::<Result<()>>()?;
    Ok(merged)
}

/// Completes the merged statistics of rows: flags, the label's class where a divergence leaves it out of the sums, the sums of the second
/// sweep, KDR. The results are those of `observe` on whole rows, for `decide`.
///
/// `sweeps` has a list for each device, with an entry for each row, from `sweep_shard` of [`Cpu`](crate::cpu::Cpu) and `Gpu`; none if
/// [`Config::sweeps_twice`] is false. They are added from the first to the last, in f64.
///
/// # Errors
/// [`Error::Shards`] if a row's shards, or the sums of its second sweep, do not cover all of its classes; [`Error::RowCount`] for sums of
/// another number of rows.
pub fn finish_shards(
    config: &Config,
    merged: &[RowStats],
    sweeps: &[&[SweepSums]],
) -> Result<Vec<RowStats>> {
    validate::shards::choices(config)?;
    for sums in sweeps {
        validate::row_count("sweeps", merged.len(), sums.len())?;
    }
    let mut merger = Merger::new(config);
    let rows = merged.iter().enumerate().map(|(row, stats)| {
        let own = sweeps.iter().map(|sums| &sums[row]);
        finished(stats, own, &mut merger).map_err(|why| refused(row, why))
    });
    rows.collect()
}

/// The statistics of all classes with the label's class among the sums, and the flags of a row. Sums of the second sweep are relative to its
/// normalisers.
fn whole(stats: &RowStats, merger: &mut Merger<'_>) -> Result<RowStats, String> {
    if stats.flags & flags::SHARD == 0 {
        return Err("the statistics are those of a whole row".to_owned());
    }
    let (first, own, all) = (stats.first_class, stats.shard_classes, stats.all_classes);
    if first != 0 || own != all || all == 0 {
        let end = u64::from(first) + u64::from(own);
        return Err(format!(
            "they cover the classes {first} to {end}, expected 0 to {all}"
        ));
    }
    let mut row = *stats;
    (row.first_class, row.shard_classes, row.all_classes) = (0, 0, 0);
    row.flags &= !(flags::SHARD | flags::LABEL_ELSEWHERE);
    if row.flags & flags::IGNORED != 0 {
        return Ok(row);
    }
    if stats.flags & flags::LABEL_ELSEWHERE != 0 {
        return Err(format!("none has the label {}", stats.label));
    }
    let setup = merger.at(row.flags);
    if setup.rule.label_apart {
        let rest = Sums::read(&row);
        rest.write_rest(&mut row);
        let sums = rest.with_class(row.label_logit, row.teacher_label_logit, setup);
        sums.write(&mut row);
    }
    let live = flags::STUDENT_LIVE | flags::TEACHER_LIVE;
    if row.flags & live != live {
        row.flags |= flags::NON_FINITE;
    }
    Ok(row)
}

/// The statistics that the second sweep over a slice needs, of every row.
pub(crate) fn whole_rows(config: &Config, merged: &[RowStats]) -> Result<Vec<RowStats>> {
    let mut merger = Merger::new(config);
    let rows = merged.iter().enumerate();
    let rows = rows.map(|(row, stats)| whole(stats, &mut merger).map_err(|why| refused(row, why)));
    rows.collect()
}

fn finished<'s>(
    stats: &RowStats,
    sweeps: impl Iterator<Item = &'s SweepSums>,
    merger: &mut Merger<'_>,
) -> Result<RowStats, String> {
    let mut row = whole(stats, merger)?;
    let (mut sums, mut covered) = ([0.0; 3], 0u64);
    for part in sweeps {
        let parts = [part.similarity, part.first, part.second];
        for (sum, part) in sums.iter_mut().zip(parts) {
            *sum += f64::from(part);
        }
        covered += u64::from(part.classes);
    }
    let wanted = match merger.setup.second_sweep {
        true => u64::from(stats.all_classes),
        false => 0,
    };
    if covered != wanted {
        return Err(format!(
            "the sums of the second sweep cover {covered} classes, expected {wanted}"
        ));
    }
    if !row.has_sums() {
        if row.flags & flags::IGNORED == 0 {
            row.kdr = f32::NAN;
        }
        return Ok(row);
    }
    [row.similarity_sum, row.sweep_first, row.sweep_second] = sums.map(|sum| sum as f32);
    if !merger.setup.rule.sampled {
        row.kdr = similarity::kdr(&row, merger.setup.config.similarity);
    }
    Ok(row)
}
