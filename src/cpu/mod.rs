//! The CPU path: the method in f32, with vector instructions chosen at run time.
//!
//! It needs no GPU.

mod add;
mod apply;
mod compiled;
mod decide;
mod deviation;
mod divergences;
mod element;
#[cfg(test)]
mod exp2_tests;
mod group;
mod isa;
mod lane_rule;
mod lane_sums;
mod lanes;
mod list;
mod masks;
mod memory;
mod merge;
mod metrics;
mod mixture;
mod neon;
mod observe;
mod part;
mod pool;
mod portable;
mod powers;
mod row;
mod rows;
mod scalar;
mod second_sweep;
mod selection;
mod setup;
mod shapes;
mod shards;
mod similarity;
mod soft_labels;
mod softmax;
mod summary;
mod sums;
mod tasks;
mod tile;
mod vector;
mod wasm;
mod x86;
mod x86_exp2;
mod zeros;

use crate::rule::statistics;
use crate::{
    Batch, Config, Decision, Distillation, GradientMut, Outputs, OutputsMut, Progress, Result,
    RowMetrics, RowResult, RowStats, Scope, Storage, Summary, ValuesMut, validate,
};
use decide::Rule;
use group::{Group, Groups};
use isa::Isa;
use memory::Memory;
#[cfg(feature = "gpu")]
pub(crate) use merge::whole_rows;
pub use merge::{finish_shards, merge_shards};
use row::Row;
use setup::Setup;
use summary::SummaryAccumulator;
use tasks::{Task, rows_per_task, tasks};
use tile::{Ahead, Scratch, TILE, is_kept};
pub(crate) use zeros::{zero_gradient, zeros};

/// The CPU engine.
///
/// A call runs on the calling thread and on a thread pool of this crate. All calls share the pool. It starts a thread when a call
/// first needs it, and keeps it. A small call (up to 32,768 student logits) runs on the calling thread alone. While the calling
/// thread waits for the others it runs no other work, so the caller may hold locks and may call from any thread pool.
///
/// A call uses one thread per core, or the number in the environment variable `RAYON_NUM_THREADS` at the time when the first engine
/// is made. [`with_threads`](Self::with_threads) sets the number for one engine. Results do not depend on it.
/// In WebAssembly everything runs on the calling thread.
#[derive(Clone, Debug)]
pub struct Cpu {
    isa: Isa,
    threads: usize,
}

impl Cpu {
    /// The CPU engine with the widest vector instructions that this processor has.
    pub fn new() -> Self {
        Self::with_isa(Isa::detect())
    }

    fn with_isa(isa: Isa) -> Self {
        Self {
            isa,
            threads: pool::default_threads(),
        }
    }

    /// Sets the number of threads of a call, including the calling thread. 0 counts as 1.
    pub fn with_threads(self, threads: usize) -> Self {
        let threads = threads.max(1);
        Self { threads, ..self }
    }

    /// One engine for every instruction set that this processor has, so that tests reach all of them.
    #[doc(hidden)]
    pub fn for_each_instruction_set() -> Vec<Self> {
        let available = Isa::available().into_iter();
        available.map(Self::with_isa).collect()
    }

    /// The instruction set and the number of threads, as text.
    pub fn describe(&self) -> String {
        let threads = self.threads;
        let s = if threads == 1 { "" } else { "s" };
        format!("CPU path ({}, {threads} thread{s})", self.isa.name())
    }

    /// Takes the exponentials of a batch with a gradient and nothing else, in tiles that stay in the first-level cache: one for every
    /// logit of student and teacher, two if those of a row are too many to keep. Benches compare the method with it.
    #[doc(hidden)]
    pub fn exponentials(&self, rows: usize, classes: usize) -> f64 {
        let times = if is_kept(classes) { 2 } else { 4 };
        let tiles = (times * rows * classes).div_ceil(TILE);
        let per_task = tiles.div_ceil(8 * self.threads);
        let tasks: Vec<_> = (0..tiles).step_by(per_task).collect();
        let sums = tasks::run(self.threads, tasks, |from| {
            self.isa.exponentials(per_task.min(tiles - from))
        });
        sums.into_iter().sum()
    }

    /// Runs the tasks and adds up their sums in order.
    fn run_tasks(
        &self,
        tasks: Vec<Task<'_>>,
        work: impl Fn(&mut Memory, Task<'_>) -> SummaryAccumulator + Sync,
    ) -> SummaryAccumulator {
        let mut total = SummaryAccumulator::default();
        for part in tasks::run_in(self.threads, tasks, Memory::default, work) {
            total.merge(&part);
        }
        total
    }

    /// Observe: each row's statistics, KDR included.
    ///
    /// # Errors
    /// As for [`Engine::run`](crate::Engine::run).
    pub fn observe(&self, config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
        validate::batch(config, batch)?;
        validate::no_class_weights(batch.class_weights.is_some())?;
        let mut setup = Setup::of(config, false).for_batch(batch);
        setup.moments = setup.moments.with(statistics(setup.rule.sampled));
        self.observe_rows(&setup, batch)
    }

    fn observe_rows(&self, setup: &Setup<'_>, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
        let mut stats: Vec<RowStats> = zeros(batch.rows())?;
        self.fill_rows(&mut stats, batch.classes(), |row, stats, scratch| {
            let row = Row::of(setup, batch, row);
            *stats = self.isa.observe(&row, None, scratch);
        });
        Ok(stats)
    }

    /// Fills the items of rows, one a row.
    fn fill_rows<T: Send>(
        &self,
        items: &mut [T],
        classes: usize,
        fill: impl Fn(usize, &mut T, &mut Scratch) + Sync,
    ) {
        let per_task = rows_per_task(items.len(), classes);
        let tasks: Vec<_> = items.chunks_mut(per_task).enumerate().collect();
        tasks::run_in(
            self.threads,
            tasks,
            Scratch::boxed,
            |scratch, (task, items)| {
                for (i, item) in items.iter_mut().enumerate() {
                    fill(task * per_task + i, item, scratch);
                }
            },
        );
    }

    /// Decide: each row's results and gradient coefficients from its statistics. `classes` are the student's.
    ///
    /// # Errors
    /// As for [`Engine::run`](crate::Engine::run).
    pub fn decide(
        &self,
        config: &Config,
        progress: Progress,
        row_stats: &[RowStats],
        classes: usize,
    ) -> Result<Vec<Decision>> {
        validate::row_stats(config, row_stats, classes)?;
        validate::progress(config.selection, progress)?;
        let valid = row_stats.iter().filter(|s| s.counts()).count() as u32;
        let rule = self.rule(config, progress, row_stats, (valid, classes));
        let mut decisions: Vec<Decision> = zeros(row_stats.len())?;
        for (decision, stats) in decisions.iter_mut().zip(row_stats) {
            *decision = rule.decide(stats);
        }
        Ok(decisions)
    }

    /// The rule of `decide`. For `Scope::Batch` it has the mean KDR of these statistics.
    fn rule(
        &self,
        config: &Config,
        progress: Progress,
        stats: &[RowStats],
        (valid, classes): (u32, usize),
    ) -> Rule {
        let mut total = SummaryAccumulator::default();
        for s in stats {
            if total.count(s.flags) {
                total.kdr += f64::from(s.kdr);
            }
        }
        let shared_kdr = match config.scope {
            Scope::Row => None,
            Scope::Batch => Some(total.mean_kdr()),
            Scope::Given(kdr) => Some(kdr),
        };
        Rule::of(config, progress.tstr(), shared_kdr, valid, classes)
    }

    /// Apply: the gradient `[rows, classes]` in f32 from each row's [`Decision`]. Rows whose teacher is a list are observed again, because a
    /// decision does not have the probability off the list.
    ///
    /// # Errors
    /// As for [`Engine::run`](crate::Engine::run).
    pub fn apply(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        validate::batch(config, batch)?;
        validate::no_class_weights(batch.class_weights.is_some())?;
        validate::new_gradient(config)?;
        validate::row_count("decisions", batch.rows(), decisions.len())?;
        self.apply_rows(config, batch, decisions)
    }

    fn apply_rows(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        let (rows, classes) = (batch.rows(), batch.classes());
        let setup = Setup::of(config, false);
        // Decisions do not have the tail of a list.
        let stats = match batch.teacher_ids {
            Some(_) => self.observe_rows(&setup, batch)?,
            None => Vec::new(),
        };
        self.new_matrix(rows, classes, |row, target, scratch| {
            let r = Row::of(&setup, batch, row);
            if let Some(stats) = stats.get(row) {
                rows::recall(&r, stats, scratch);
            }
            self.isa.apply(&r, &decisions[row], target, false, scratch);
        })
    }

    /// A new matrix `[rows, classes]`, whose rows `write` fills.
    fn new_matrix(
        &self,
        rows: usize,
        classes: usize,
        write: impl Fn(usize, ValuesMut<'_>, &mut Scratch) + Sync,
    ) -> Result<Vec<f32>> {
        let mut out = zero_gradient(Storage::F32, rows * classes)?;
        let target = GradientMut::new(&mut out, classes);
        let tasks = tasks(rows, classes, Some(target), (&mut [], &mut []));
        tasks::run_in(self.threads, tasks, Scratch::boxed, |scratch, mut task| {
            let matrix = task.gradient.as_mut().expect("the matrix is the output");
            for (i, row) in task.rows.enumerate() {
                write(row, matrix.row(i), scratch);
            }
        });
        Ok(out.into_f32())
    }

    /// Computes the whole method. See [`Engine::run`](crate::Engine::run) for details and errors.
    pub fn run(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        validate::new_run(config, progress, batch)?;
        let elements = validate::elements(batch.rows(), batch.classes())?;
        let zeroed = |storage| zero_gradient(storage, elements);
        let mut gradient = outputs.gradient.map(zeroed).transpose()?;
        let of = |wanted: bool| if wanted { batch.rows() } else { 0 };
        let mut rows: Vec<RowResult> = zeros(of(outputs.rows))?;
        let mut metrics: Vec<RowMetrics> = zeros(of(outputs.metrics))?;
        let classes = batch.classes();
        let target = gradient.as_mut().map(|g| GradientMut::new(g, classes));
        let lists = (&mut rows[..], &mut metrics[..]);
        let summary = self.distill(config, progress, batch, target, lists, outputs.metrics)?;
        Ok(Distillation {
            summary,
            rows,
            metrics,
            gradient,
        })
    }

    /// Computes the whole method into the caller's memory. See [`Engine::run_into`](crate::Engine::run_into) for details and errors.
    pub fn run_into(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        validate::run_into(config, progress, batch, &outputs)?;
        let with_metrics = outputs.metrics.is_some();
        let lists = (
            outputs.rows.unwrap_or_default(),
            outputs.metrics.unwrap_or_default(),
        );
        let gradient = outputs.gradient;
        self.distill(config, progress, batch, gradient, lists, with_metrics)
    }

    fn distill(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        gradient: Option<GradientMut<'_>>,
        lists: (&mut [RowResult], &mut [RowMetrics]),
        with_metrics: bool,
    ) -> Result<Summary> {
        validate::listed::metrics(config, batch, with_metrics)?;
        let (rows, classes) = (batch.rows(), batch.classes());
        let setup = Setup::of(config, with_metrics).for_batch(batch);
        // With `Scope::Batch` every row is observed before the first is decided.
        let stats = match config.scope {
            Scope::Batch => self.observe_rows(&setup, batch)?,
            Scope::Row | Scope::Given(_) => Vec::new(),
        };
        let valid = crate::batch::valid_rows(batch.labels, classes, config.ignore_index);
        let rule = self.rule(config, progress, &stats, (valid, classes));
        let rule = rule.with_class_weights(setup.weights);
        let tasks = tasks(rows, classes, gradient, lists);
        let groups = match with_metrics {
            true => None,
            false => Groups::of(&rule, &setup, batch),
        };
        let totals = self.run_tasks(tasks, |memory, mut task| {
            let mut totals = SummaryAccumulator::default();
            let observed_before = !stats.is_empty();
            let keep = !observed_before && task.gradient.is_some();
            let mut results = [RowResult::default(); group::ROWS];
            for start in task.rows.clone().step_by(group::ROWS) {
                let rows = start..task.rows.end.min(start + group::ROWS);
                let first = start - task.rows.start;
                // In WebAssembly groups are slower than single rows, and would be a sixth of a module.
                let groups = groups.as_ref().filter(|_| !cfg!(target_arch = "wasm32"));
                let left = groups.map(|groups| {
                    let group = Group {
                        rows: rows.clone(),
                        gradient: &mut task.gradient,
                        first,
                        workspace: memory.workspace(classes),
                        results: &mut results,
                    };
                    self.isa.distill(groups, group)
                });
                for (i, row) in rows.enumerate() {
                    let local = first + i;
                    if left.is_some_and(|left| left >> i & 1 == 0) {
                        totals.add(&results[i]);
                        if let Some(result) = task.results.get_mut(local) {
                            *result = results[i];
                        }
                        continue;
                    }
                    let scratch = memory.scratch();
                    let r = Row::of(&setup, batch, row);
                    let stats = match stats.get(row) {
                        Some(stats) => *stats,
                        None => {
                            let gradient = task.gradient.as_mut();
                            let memory = gradient.map(|all| Ahead::gradient(&all.row(local)));
                            self.isa.observe(&r, memory, scratch)
                        }
                    };
                    let decision = rule.decide(&stats);
                    totals.add(&decision.result);
                    if let Some(metrics) = task.metrics.get_mut(local) {
                        *metrics = rule.metrics(&stats, &decision.result);
                        totals.add_metrics(&decision.result, metrics);
                    }
                    if let Some(result) = task.results.get_mut(local) {
                        *result = decision.result;
                    }
                    if let Some(gradient) = &mut task.gradient {
                        if observed_before {
                            rows::recall(&r, &stats, scratch);
                        }
                        let target = gradient.row(local);
                        self.isa.apply(&r, &decision, target, keep, scratch);
                    }
                }
            }
            totals
        });
        Ok(totals.finish(config.reduction))
    }
}

/// For losses whose logits come from products that run on the same threads.
#[cfg(feature = "linear")]
impl Cpu {
    /// Rows that one thread takes at a time, so that their number does not depend on that of the threads.
    pub(crate) fn rows_at_a_time(rows: usize, classes: usize) -> usize {
        rows_per_task(rows, classes)
    }

    /// Threads of a call.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` for each task on the threads of this engine. Returns the results in the order of the tasks.
    pub(crate) fn share<T: Send, R: Send>(
        &self,
        tasks: Vec<T>,
        work: impl Fn(T) -> R + Sync,
    ) -> Vec<R> {
        tasks::run(self.threads, tasks, work)
    }

    /// [`run_into`](Self::run_into) on the calling thread, for arguments that were checked before.
    pub(crate) fn run_checked(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        let with_metrics = outputs.metrics.is_some();
        let lists = (
            outputs.rows.unwrap_or_default(),
            outputs.metrics.unwrap_or_default(),
        );
        let one = self.clone().with_threads(1);
        one.distill(
            config,
            progress,
            batch,
            outputs.gradient,
            lists,
            with_metrics,
        )
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}
