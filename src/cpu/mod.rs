//! The CPU path: the method in f32, with vector instructions chosen at run time and rayon's threads over the rows.
//!
//! It is what every machine without a GPU gets. Results do not depend on the number of threads.

mod block;
mod decide;
mod gradient;
mod isa;
mod lanes;
mod row;
mod sums;
mod vector;

use rayon::prelude::*;

use crate::{
    Batch, Config, Decision, Distillation, Error, GradientMut, Logits, Outputs, OutputsMut,
    Progress, Reduction, Result, RowResult, RowStats, Scope, Storage, Summary, Values, flags,
    validate,
};
use decide::Rule;
pub(crate) use gradient::zero_gradient;
use gradient::zeros;
use isa::Isa;

use block::Scratch;
use row::Row;

/// Elements of a task: large enough to be worth handing to a thread, small enough to share out evenly.
const TASK_ELEMENTS: usize = 1 << 15;

/// The CPU engine.
#[derive(Clone, Debug)]
pub struct Cpu {
    isa: Isa,
}

/// A run of rows, with the parts of the outputs that belong to it.
struct Task<'a> {
    rows: std::ops::Range<usize>,
    gradient: Option<GradientMut<'a>>,
    results: &'a mut [RowResult],
}

fn slice<'a>(logits: &Logits<'a>, row: usize, classes: usize) -> Values<'a> {
    let start = row * logits.row_stride;
    let range = start..start + classes.min(logits.classes);
    match logits.values {
        Values::F32(v) => Values::F32(&v[range]),
        Values::F16(v) => Values::F16(&v[range]),
        Values::Bf16(v) => Values::Bf16(&v[range]),
    }
}

fn row_of<'a>(config: &'a Config, batch: &Batch<'a>, row: usize) -> Row<'a> {
    let classes = batch.classes();
    Row {
        student: slice(&batch.student_logits, row, classes),
        teacher: slice(&batch.teacher_logits, row, classes),
        label: batch.labels[row],
        config,
    }
}

/// Sums over rows, from which the summary follows.
#[derive(Clone, Copy, Default)]
struct Totals {
    loss: f64,
    kdr: f64,
    tssr: f64,
    averaged: u32,
    summary: Summary,
}

impl Totals {
    /// Counts a row; true if its KDR and TSSR are to be averaged.
    ///
    /// In branches on purpose: with sums of `u32::from(bool)` for all five counters, rustc 1.95 (LLVM 22) at opt-level 2 and 3
    /// left `averaged` at 0. The case table, run in release by `./check`, shows it.
    fn count(&mut self, flags: u32) -> bool {
        let s = &mut self.summary;
        if flags & flags::IGNORED != 0 {
            s.ignored_rows += 1;
            return false;
        }
        let non_finite = flags & flags::NON_FINITE != 0;
        if non_finite {
            s.non_finite_rows += 1;
        }
        if flags & flags::INVALID_LABEL != 0 {
            s.invalid_labels += 1;
            return false;
        }
        s.valid_rows += 1;
        if non_finite {
            return false;
        }
        self.averaged += 1;
        true
    }

    fn add(&mut self, row: &RowResult) {
        if self.count(row.flags) {
            self.kdr += f64::from(row.kdr);
            self.tssr += f64::from(row.tssr);
        }
        self.loss += f64::from(row.loss);
    }

    fn merge(&mut self, other: &Self) {
        self.loss += other.loss;
        self.kdr += other.kdr;
        self.tssr += other.tssr;
        self.averaged += other.averaged;
        let (s, o) = (&mut self.summary, &other.summary);
        s.valid_rows += o.valid_rows;
        s.ignored_rows += o.ignored_rows;
        s.invalid_labels += o.invalid_labels;
        s.non_finite_rows += o.non_finite_rows;
    }

    fn finish(self, reduction: Reduction) -> Summary {
        let mean = f64::from(self.averaged.max(1));
        Summary {
            loss: (self.loss / denominator(reduction, self.summary.valid_rows)) as f32,
            kdr: (self.kdr / mean) as f32,
            tssr: (self.tssr / mean) as f32,
            ..self.summary
        }
    }
}

fn denominator(reduction: Reduction, valid_rows: u32) -> f64 {
    match reduction {
        Reduction::None | Reduction::Sum => 1.0,
        Reduction::Mean => f64::from(valid_rows.max(1)),
        // No row is valid: a label would have been refused.
        Reduction::SumOver(0.0) => 1.0,
        Reduction::SumOver(d) => f64::from(d),
    }
}

/// Runs the tasks, on this thread if there is but one, and adds up their totals in their order.
fn run_tasks(tasks: Vec<Task<'_>>, work: impl Fn(Task<'_>) -> Totals + Send + Sync) -> Totals {
    let parts: Vec<Totals> = if tasks.len() <= 1 {
        tasks.into_iter().map(work).collect()
    } else {
        tasks.into_par_iter().map(work).collect()
    };
    let mut totals = Totals::default();
    for part in &parts {
        totals.merge(part);
    }
    totals
}

/// An empty list with room for `n` items.
fn with_room<T>(n: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    let room = list.try_reserve_exact(n);
    room.map_err(|_| Error::no_room(n.saturating_mul(size_of::<T>())))?;
    Ok(list)
}

fn rows_per_task(rows: usize, classes: usize) -> usize {
    // At least 8 tasks where there are 8 rows of some length, so that a few long rows use all threads.
    let by_size = (TASK_ELEMENTS / classes).max(1);
    if rows * classes > TASK_ELEMENTS {
        by_size.min(rows.div_ceil(8))
    } else {
        by_size
    }
}

impl Cpu {
    /// The CPU engine with the widest vector instructions that this processor has.
    pub fn new() -> Self {
        Self { isa: Isa::detect() }
    }

    /// One engine for every instruction set that this processor has, so that tests reach all of them.
    #[doc(hidden)]
    pub fn for_each_instruction_set() -> Vec<Self> {
        Isa::available()
            .into_iter()
            .map(|isa| Self { isa })
            .collect()
    }

    /// The instruction set and the number of threads, in words.
    pub fn describe(&self) -> String {
        let threads = rayon::current_num_threads();
        let s = if threads == 1 { "" } else { "s" };
        format!("CPU path ({}, {threads} thread{s})", self.isa.name())
    }

    /// The probabilities `softmax(logits / temperature)`, `[rows, classes]` close together.
    ///
    /// A row with NaN or `+inf`, or with nothing but `-inf`, gives NaN.
    pub fn softmax(&self, logits: &Logits<'_>, rows: usize, temperature: f32) -> Result<Vec<f32>> {
        validate::temperature("temperature", temperature)?;
        validate::logits("logits", logits, rows)?;
        let classes = logits.classes;
        let config = Config {
            student_temperature: temperature,
            teacher_temperature: temperature,
            ..Config::default()
        };
        let mut out = zero_gradient(Storage::F32, rows * classes)?;
        let target = GradientMut::new(&mut out, classes);
        let tasks = tasks(rows, classes, Some(target), &mut []);
        run_tasks(tasks, |mut task| {
            let mut scratch = Scratch::new();
            for row in task.rows.clone() {
                let values = slice(logits, row, classes);
                let r = Row {
                    student: values,
                    teacher: values,
                    label: 0,
                    config: &config,
                };
                // Softmax is the gradient of a row that has only a student: coefficient 1 / z, all others 0.
                let stats = self.isa.observe(&r, true, &mut scratch);
                let decision = Decision {
                    result: RowResult {
                        flags: stats.flags,
                        ..RowResult::default()
                    },
                    student_max: stats.student_max,
                    teacher_max: stats.teacher_max,
                    student_scale: 1.0 / stats.student_sum,
                    ..Decision::default()
                };
                let gradient = task.gradient.as_mut().expect("softmax has an output");
                let target = gradient.row(row - task.rows.start);
                self.isa.apply(&r, &decision, target, true, &mut scratch);
            }
            Totals::default()
        });
        Ok(out.into_f32())
    }

    /// Observe: each row's statistics, KDR included.
    pub fn observe(&self, config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
        validate::batch(config, batch)?;
        self.observe_rows(config, batch)
    }

    fn observe_rows(&self, config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
        let mut stats = with_room(batch.rows())?;
        let per_task = rows_per_task(batch.rows(), batch.classes());
        (0..batch.rows())
            .into_par_iter()
            .with_min_len(per_task)
            .map_init(Scratch::new, |scratch, row| {
                self.isa
                    .observe(&row_of(config, batch, row), false, scratch)
            })
            .collect_into_vec(&mut stats);
        Ok(stats)
    }

    /// Decide: each row's results and gradient coefficients from its statistics. `classes` are the student's.
    pub fn decide(
        &self,
        config: &Config,
        progress: Progress,
        row_stats: &[RowStats],
        classes: usize,
    ) -> Result<Vec<Decision>> {
        validate::config(config)?;
        validate::progress(config.selection, progress)?;
        validate::shape("row_stats", row_stats.len(), classes, classes)?;
        let rule = self.rule(config, progress, row_stats, classes);
        let mut decisions = with_room(row_stats.len())?;
        decisions.extend(row_stats.iter().map(|s| rule.decide(s)));
        Ok(decisions)
    }

    fn rule(&self, config: &Config, progress: Progress, stats: &[RowStats], n: usize) -> Rule {
        let mut totals = Totals::default();
        for s in stats {
            if totals.count(s.flags) {
                totals.kdr += f64::from(s.kdr);
            }
        }
        let mean = (totals.kdr / f64::from(totals.averaged.max(1))) as f32;
        Rule {
            config: *config,
            tstr: progress.tstr(),
            shared_kdr: match config.scope {
                Scope::Row => None,
                Scope::Batch => Some(mean),
                Scope::Given(kdr) => Some(kdr),
            },
            grad_scale: f64::from(config.grad_loss)
                / denominator(config.reduction, totals.summary.valid_rows),
            classes: n,
        }
    }

    /// Apply: the gradient `[rows, classes]` in f32 from each row's [`Decision`].
    pub fn apply(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        validate::batch(config, batch)?;
        validate::new_gradient(config)?;
        let (rows, classes) = (batch.rows(), batch.classes());
        validate::row_count("decisions", rows, decisions.len())?;
        let mut out = zero_gradient(Storage::F32, rows * classes)?;
        let target = GradientMut::new(&mut out, classes);
        let tasks = tasks(rows, classes, Some(target), &mut []);
        run_tasks(tasks, |mut task| {
            let mut scratch = Scratch::new();
            for row in task.rows.clone() {
                let gradient = task.gradient.as_mut().expect("the gradient is the output");
                let target = gradient.row(row - task.rows.start);
                let r = row_of(config, batch, row);
                self.isa
                    .apply(&r, &decisions[row], target, false, &mut scratch);
            }
            Totals::default()
        });
        Ok(out.into_f32())
    }

    /// The whole method. See [`Engine::run`](crate::Engine::run).
    pub fn run(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        validate::batch(config, batch)?;
        validate::progress(config.selection, progress)?;
        validate::new_gradient(config)?;
        let elements = validate::elements(batch.rows(), batch.classes())?;
        let zeroed = |storage| zero_gradient(storage, elements);
        let mut gradient = outputs.gradient.map(zeroed).transpose()?;
        let mut rows: Vec<RowResult> = zeros(if outputs.rows { batch.rows() } else { 0 })?;
        let classes = batch.classes();
        let target = gradient.as_mut().map(|g| GradientMut::new(g, classes));
        let summary = self.distill(config, progress, batch, target, &mut rows)?;
        Ok(Distillation {
            summary,
            rows,
            gradient,
        })
    }

    /// The whole method into memory of the caller. See [`Engine::run_into`](crate::Engine::run_into).
    pub fn run_into(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        validate::batch(config, batch)?;
        validate::progress(config.selection, progress)?;
        validate::outputs(batch, &outputs)?;
        let rows = outputs.rows.unwrap_or_default();
        self.distill(config, progress, batch, outputs.gradient, rows)
    }

    fn distill(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        gradient: Option<GradientMut<'_>>,
        results: &mut [RowResult],
    ) -> Result<Summary> {
        let (rows, classes) = (batch.rows(), batch.classes());
        // With `Batch` scope nothing can be decided before every row is observed; else labels alone say by what to divide.
        let observed = match config.scope {
            Scope::Batch => self.observe_rows(config, batch)?,
            Scope::Row | Scope::Given(_) => Vec::new(),
        };
        let mut rule = self.rule(config, progress, &observed, classes);
        if observed.is_empty() {
            let valid = crate::batch::valid_rows(batch.labels, classes, config.ignore_index);
            rule.grad_scale = f64::from(config.grad_loss) / denominator(config.reduction, valid);
        }
        let rule = rule;
        let tasks = tasks(rows, classes, gradient, results);
        let totals = run_tasks(tasks, |mut task| {
            let mut totals = Totals::default();
            let mut scratch = Scratch::new();
            let keep = observed.is_empty() && task.gradient.is_some();
            for row in task.rows.clone() {
                let local = row - task.rows.start;
                let r = row_of(config, batch, row);
                let decision = match observed.get(row) {
                    Some(stats) => rule.decide(stats),
                    None => rule.decide(&self.isa.observe(&r, keep, &mut scratch)),
                };
                totals.add(&decision.result);
                if let Some(result) = task.results.get_mut(local) {
                    *result = decision.result;
                }
                if let Some(gradient) = &mut task.gradient {
                    let target = gradient.row(local);
                    self.isa.apply(&r, &decision, target, keep, &mut scratch);
                }
            }
            totals
        });
        Ok(totals.finish(config.reduction))
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

/// Cuts rows and outputs into tasks. The cut depends on the shape alone, so that results do not depend on the threads.
fn tasks<'a>(
    rows: usize,
    classes: usize,
    mut gradient: Option<GradientMut<'a>>,
    mut results: &'a mut [RowResult],
) -> Vec<Task<'a>> {
    let per_task = rows_per_task(rows, classes);
    let mut tasks = Vec::with_capacity(rows.div_ceil(per_task));
    let mut start = 0;
    while start < rows {
        let n = per_task.min(rows - start);
        let mut own_gradient = None;
        if let Some(all) = gradient.take() {
            let (own, rest) = all.split_at_row(n);
            own_gradient = Some(own);
            gradient = Some(rest);
        }
        let (own_results, rest) = results.split_at_mut(n.min(results.len()));
        results = rest;
        tasks.push(Task {
            rows: start..start + n,
            gradient: own_gradient,
            results: own_results,
        });
        start += n;
    }
    tasks
}
