//! Slices of a batch on several devices: of its classes (tensor parallel) and of its rows (data parallel).

use bytemuck::{Pod, Zeroable};

use crate::{Batch, Config, Decision, RowStats, Scope, Summary, flags};

/// The label of a row whose class is none of a slice's columns. No column has this number, whatever the kernels add to it.
const ELSEWHERE: i32 = i32::MIN;

/// The label of an ignored row of a slice. `ignore_index` itself may be a column.
const IGNORED: i32 = -1;

/// The place of a device's classes among all classes of a vocabulary that lies on several devices (tensor parallel).
///
/// The columns of both matrices are the classes `first_class..first_class + n` of `classes` in all, where `n` is the number of columns.
/// Labels are numbers among all classes and equal on every device. docs/SCALE.md counts bytes and messages.
///
/// A step has three messages, each exchanged by the caller's own collective; the second only with losses and similarities of two sweeps.
///
/// 1. Each device observes its slice: `observe_shard` of [`Cpu`](crate::cpu::Cpu) or `Gpu`. All devices gather the [`RowStats`] of all
///    (224 bytes a row) and merge them in the order of the classes: [`merge_shards`](crate::merge_shards).
/// 2. With [`Config::sweeps_twice`](crate::Config::sweeps_twice) each device sweeps over its slice once more, with the merged normalisers:
///    `sweep_shard`. All devices gather the [`SweepSums`] (16 bytes a row).
/// 3. Each device finishes ([`finish_shards`](crate::finish_shards)) and decides (`decide`, with the number of all classes). The results
///    are equal on devices with the same engine, so nothing is sent. Each applies to its slice of the gradient: `apply_shard`. The third
///    message is the caller's: the gradient of the layer below the logits is a sum over the devices.
///
/// In buffers of a GPU these are `Gpu::encode_observe_shard`, `encode_sweep_shard` and `encode_apply_shard`; the last merges, decides and applies,
/// so that nothing is read back but what the collective carries.
///
/// Each divergence and similarity works, with label smoothing over all classes, soft labels (each device has its columns), weights of rows
/// and an attached TSSR. Refused by name, as in the single steps: weights of classes, teachers that are lists; and in shards alone
/// [`Standardization::ZScore`](crate::Standardization::ZScore) and a teacher whose slice has another width than the student's.
///
/// ```
/// use wgpu_distill::cpu::Cpu;
/// use wgpu_distill::{Batch, Config, Outputs, Progress, Shard, finish_shards, merge_shards};
///
/// # fn main() -> wgpu_distill::Result<()> {
/// // Two rows of five classes: three on the first device, two on the second.
/// let (first_student, second_student) = ([2.0, 0.5, 1.0, 0.0, 1.0, 0.5], [3.0, 0.0, -1.0, 2.0]);
/// let (first_teacher, second_teacher) = ([1.0, 0.0, 1.5, 0.5, 0.0, 2.0], [2.0, 1.0, -2.0, 1.0]);
/// let labels = [3, 1]; // among all five classes, the same on both devices
/// let devices = [
///     (Shard::new(0, 5), Batch::new(&first_student, &first_teacher, &labels, 3)),
///     (Shard::new(3, 5), Batch::new(&second_student, &second_teacher, &labels, 2)),
/// ];
/// let (cpu, config, progress) = (Cpu::new(), Config::default(), Progress::new(1, 4));
///
/// let observe = |(shard, batch): &(Shard, Batch<'_>)| cpu.observe_shard(&config, batch, *shard);
/// let gathered = [observe(&devices[0])?, observe(&devices[1])?];
/// let merged = merge_shards(&config, &[&gathered[0], &gathered[1]])?;
/// let row_stats = finish_shards(&config, &merged, &[])?;
/// let decisions = cpu.decide(&config, progress, &row_stats, 5)?;
///
/// // The gradient of the second device, two rows of two classes.
/// let (shard, batch) = &devices[1];
/// let gradient = cpu.apply_shard(&config, batch, *shard, &decisions)?;
/// # let student = [2.0, 0.5, 1.0, 3.0, 0.0, 0.0, 1.0, 0.5, -1.0, 2.0];
/// # let teacher = [1.0, 0.0, 1.5, 2.0, 1.0, 0.5, 0.0, 2.0, -2.0, 1.0];
/// # let whole = Batch::new(&student, &teacher, &labels, 5);
/// # let whole = cpu.run(&config, progress, &whole, Outputs::GRADIENT)?.into_grad_student_logits();
/// # let want = [whole[3], whole[4], whole[8], whole[9]];
/// # assert!(gradient.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    /// The number of the first column among all classes.
    pub first_class: usize,
    /// All classes, of all devices. Label smoothing counts them.
    pub classes: usize,
}

impl Shard {
    /// The slice that starts at `first_class` of `classes` in all. The matrices of a call have its width.
    pub fn new(first_class: usize, classes: usize) -> Self {
        Self {
            first_class,
            classes,
        }
    }

    /// The configuration for labels that are columns.
    pub(crate) fn local(config: &Config) -> Config {
        Config {
            ignore_index: IGNORED,
            ..*config
        }
    }

    /// The column of a class, of `own` columns.
    fn column(&self, label: i32, own: usize) -> i32 {
        let column = usize::try_from(label).ok();
        let column = column.and_then(|label| label.checked_sub(self.first_class));
        column
            .filter(|column| *column < own)
            .map_or(ELSEWHERE, |column| column as i32)
    }

    /// The labels of a batch as columns of the slice.
    pub(crate) fn columns(&self, config: &Config, batch: &Batch<'_>) -> Vec<i32> {
        let own = batch.classes();
        let of = |label: &i32| match *label == config.ignore_index {
            true => IGNORED,
            false => self.column(*label, own),
        };
        batch.labels.iter().map(of).collect()
    }

    /// The decisions of rows with their labels as columns of the slice, of `own` columns.
    pub(crate) fn local_decisions(&self, decisions: &[Decision], own: usize) -> Vec<Decision> {
        let of = |decision: &Decision| Decision {
            label: self.column(decision.label, own),
            ..*decision
        };
        decisions.iter().map(of).collect()
    }

    /// Marks the statistics of a slice's rows, which have columns for labels, as those of a part of all classes.
    pub(crate) fn mark(&self, batch: &Batch<'_>, stats: &mut [RowStats]) {
        let own = batch.classes();
        for (stats, &label) in stats.iter_mut().zip(batch.labels) {
            stats.label = label;
            stats.first_class = self.first_class as u32;
            stats.shard_classes = own as u32;
            stats.all_classes = self.classes as u32;
            stats.flags &= !flags::INVALID_LABEL;
            stats.flags |= flags::SHARD;
            if stats.flags & flags::IGNORED == 0 && self.column(label, own) == ELSEWHERE {
                stats.flags |= flags::LABEL_ELSEWHERE;
            }
        }
    }
}

/// A shard's part of a row's sums of the second sweep, 16 bytes. The parts of all shards are added in their order, in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[non_exhaustive]
pub struct SweepSums {
    /// The similarity's sum. 0 for a similarity of one sweep.
    pub similarity: f32,
    /// The divergence's first sum. 0 for a divergence without one.
    pub first: f32,
    /// The divergence's second sum. 0 for a divergence without one.
    pub second: f32,
    /// The classes that the sums cover.
    pub classes: u32,
}

/// The sum of the KDR of rows and their count, 16 bytes: the message of [`Scope::Batch`] between devices that have rows of one batch
/// (data parallel).
///
/// The sums of all devices merge into that of the batch, in any order within rounding, in one order with the same bits. Each device then
/// runs with the [`scope`](Self::scope) of the merged sum, with [`Reduction::SumOver`](crate::Reduction::SumOver) of the number of valid
/// rows of all devices. The sums of loss and gradient over the devices are those of the batch.
///
/// ```
/// use wgpu_distill::{Batch, Config, Engine, KdrSum, Outputs, Progress, Reduction, Scope};
///
/// # fn main() -> wgpu_distill::Result<()> {
/// let engine = Engine::cpu();
/// let progress = Progress::new(9, 10);
/// // A row of three classes on each of two devices.
/// let devices = [
///     Batch::new(&[2.0f32, 0.5, -1.0], &[1.0f32, 1.5, -2.0], &[0], 3),
///     Batch::new(&[1.0f32, 1.5, -0.5], &[0.5f32, 2.5, -0.5], &[1], 3),
/// ];
///
/// let mut kdr = KdrSum::default();
/// for batch in &devices {
///     let done = engine.run(&Config::default(), progress, batch, Outputs::SUMMARY)?;
///     kdr = kdr.merge(&KdrSum::of_summary(&done.summary));
/// }
/// let config = Config {
///     scope: kdr.scope(),
///     reduction: Reduction::SumOver(2.0),
///     ..Config::default()
/// };
/// let mut loss = 0.0;
/// for batch in &devices {
///     loss += engine.run(&config, progress, batch, Outputs::GRADIENT)?.summary.loss;
/// }
/// # let (student, teacher) = ([2.0, 0.5, -1.0, 1.0, 1.5, -0.5], [1.0, 1.5, -2.0, 0.5, 2.5, -0.5]);
/// # let whole = Config { scope: Scope::Batch, ..Config::default() };
/// # let batch = Batch::new(&student, &teacher, &[0, 1], 3);
/// # let whole = engine.run(&whole, progress, &batch, Outputs::SUMMARY)?;
/// # assert!((loss - whole.summary.loss).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[non_exhaustive]
pub struct KdrSum {
    /// The sum of the rows' KDR.
    pub sum: f64,
    /// The rows that are valid, finite and not left out.
    pub rows: u64,
}

impl KdrSum {
    /// Of the rows of whole statistics, as `observe` and [`finish_shards`](crate::finish_shards) give them.
    pub fn of_rows(row_stats: &[RowStats]) -> Self {
        let mut all = Self::default();
        for stats in row_stats {
            if stats.counts() && stats.has_sums() {
                all.sum += f64::from(stats.kdr);
                all.rows += 1;
            }
        }
        all
    }

    /// Of the rows of a run's summary, whose mean is rounded to f32. Its config had any scope: KDR does not depend on it. Labels out of
    /// range, which only buffers can have, make the loss NaN and the count meaningless.
    pub fn of_summary(summary: &Summary) -> Self {
        let rows = summary.valid_rows.saturating_sub(summary.non_finite_rows);
        Self {
            sum: f64::from(summary.kdr) * f64::from(rows),
            rows: u64::from(rows),
        }
    }

    /// The sum over the rows of both.
    pub fn merge(&self, other: &Self) -> Self {
        Self {
            sum: self.sum + other.sum,
            rows: self.rows + other.rows,
        }
    }

    /// The mean KDR, in `[0, 1]`; 0 without rows.
    pub fn mean(&self) -> f32 {
        ((self.sum / self.rows.max(1) as f64) as f32).clamp(0.0, 1.0)
    }

    /// The scope that gives the mean KDR to every row.
    pub fn scope(&self) -> Scope {
        Scope::Given(self.mean())
    }
}

impl RowStats {
    /// The statistics of no classes: merged with those of a shard, they change nothing. A row's statistics are 224 bytes.
    pub fn identity() -> Self {
        Self {
            student_max: f32::MIN,
            teacher_max: f32::MIN,
            flags: flags::SHARD | flags::LABEL_ELSEWHERE,
            ..Self::default()
        }
    }
}
