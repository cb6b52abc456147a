//! Single steps of the method on slices: softmax, observe, decide, apply.

use std::ops::Range;

use bytemuck::Pod;

use super::device::Gpu;
use super::memory::{Failures, PREPARING, output, padded, upload};
use super::readback::Download;
use super::row_ranges::{
    RangePlans, bound_bytes, one_buffer_each, problem, row_bytes, row_ranges, rows_of, teacher_of,
};
use super::summaries::stats_summary;
use crate::plan::{
    DECISION_BYTES, DispatchBuilder, LabelType, List, Lists, Operand, Plan, Problem,
    ROW_STATS_BYTES, SWEEP_SUMS_BYTES, ShardLists, ShardStep, Tiling,
};
use crate::shader::Kernel;
use crate::{
    Batch, Config, Decision, Error, Logits, Progress, Reduction, Result, RowStats, Scope, Shard,
    Storage, Values, validate,
};

/// A kernel with its inputs and the operand that holds its results.
pub(super) struct Step<'a> {
    pub kernel: Kernel,
    pub config: Config,
    pub progress: Progress,
    pub rows: usize,
    pub classes: usize,
    pub inputs: &'a [(Operand, Input<'a>)],
    pub result: Operand,
    /// The place of the columns among all classes, and the step, if the matrices are a slice of them.
    pub shard: Option<(Shard, ShardStep)>,
}

/// One column stands for a matrix in a plan of `decide`, which reads none.
const NO_MATRIX: Logits<'static> = Logits {
    values: Values::F32(&[]),
    classes: 1,
    row_stride: 1,
};

/// Contents of an operand.
pub(super) enum Input<'a> {
    /// Logits `[rows, classes]`.
    Matrix(Logits<'a>),
    /// Items of the given number of bytes, one per row.
    List(&'a [u8], usize),
    /// The same bytes for all rows.
    Shared(&'a [u8]),
}

impl<'a> Input<'a> {
    fn row_bytes(&self) -> usize {
        match self {
            Self::Matrix(logits) => row_bytes(logits),
            Self::List(_, item) => *item,
            Self::Shared(_) => 0,
        }
    }

    /// The bytes that rows `range` need.
    fn bytes(&self, range: &Range<usize>) -> &'a [u8] {
        match self {
            Self::Matrix(logits) => rows_of(logits, range),
            Self::List(bytes, item) => &bytes[range.start * item..range.end * item],
            Self::Shared(bytes) => bytes,
        }
    }
}

impl<'a> Step<'a> {
    fn input(&self, operand: Operand) -> Option<&'a Input<'a>> {
        let found = self.inputs.iter().find(|(input, _)| *input == operand);
        found.map(|(_, input)| input)
    }

    fn matrix(&self, operand: Operand) -> Option<&'a Logits<'a>> {
        match self.input(operand) {
            Some(Input::Matrix(logits)) => Some(logits),
            _ => None,
        }
    }

    /// Bytes of one row's results.
    fn result_bytes(&self) -> usize {
        match self.result {
            Operand::RowStats | Operand::SegmentStats => ROW_STATS_BYTES as usize,
            Operand::SweepSums => SWEEP_SUMS_BYTES as usize,
            Operand::Decisions => DECISION_BYTES as usize,
            _ => 4 * self.classes,
        }
    }

    /// A plan for `rows` rows in which the step is one dispatch.
    fn plan(&self, gpu: &Gpu, rows: usize) -> Result<Plan> {
        let student = self.matrix(Operand::StudentLogits);
        let student = student.unwrap_or(&NO_MATRIX);
        let teacher = self.matrix(Operand::TeacherLogits).unwrap_or(student);
        let soft_labels = self.matrix(Operand::SoftLabels);
        let gradient = (self.result == Operand::Gradient).then_some(Storage::F32);
        let problem = Problem {
            row_weights: self.input(Operand::RowWeights).is_some(),
            teacher_list: self.input(Operand::TeacherIds).is_some(),
            shard: self.shard.map(|(shard, _)| shard),
            ..problem(rows, student, teacher, soft_labels, gradient)
        };
        // `Batch` scope plans observe, decide and apply as separate dispatches.
        let config = Config {
            scope: Scope::Batch,
            ..self.config
        };
        let tiling = Tiling {
            segments: 1,
            ..Plan::tiling(&config, &problem, &gpu.limits)
        };
        Plan::with_tiling(&config, &problem, &one_buffer_each(&gpu.limits), &tiling)
    }
}

/// The inputs of `observe`.
pub(super) fn observed<'a>(batch: &Batch<'a>) -> Vec<(Operand, Input<'a>)> {
    let mut inputs = vec![
        (Operand::StudentLogits, Input::Matrix(batch.student_logits)),
        (Operand::TeacherLogits, Input::Matrix(teacher_of(batch))),
        (
            Operand::Labels,
            Input::List(bytemuck::cast_slice(batch.labels), 4),
        ),
    ];
    if let Some(soft_labels) = batch.soft_labels {
        inputs.push((Operand::SoftLabels, Input::Matrix(soft_labels)));
    }
    if let Some(weights) = batch.row_weights {
        let list = Input::List(bytemuck::cast_slice(weights), 4);
        inputs.push((Operand::RowWeights, list));
    }
    inputs.extend(listed(batch));
    inputs
}

/// The classes of the teacher's list, if it has one.
fn listed<'a>(batch: &Batch<'a>) -> Option<(Operand, Input<'a>)> {
    let ids = bytemuck::cast_slice(batch.teacher_ids?);
    let list = Input::List(ids, 4 * batch.teacher_logits.classes);
    Some((Operand::TeacherIds, list))
}

impl Gpu {
    /// Softmax on slices, without blocking. See [`Cpu::softmax`](crate::cpu::Cpu::softmax).
    pub async fn softmax_async(
        &self,
        logits: &Logits<'_>,
        rows: usize,
        temperature: f32,
    ) -> Result<Vec<f32>> {
        validate::temperature("temperature", temperature)?;
        validate::logits("logits", logits, rows)?;
        self.run_step(&Step {
            kernel: Kernel::Softmax,
            // No loss: without a mean there are no factors over rows to check.
            config: Config {
                student_temperature: temperature,
                reduction: Reduction::Sum,
                ..Config::default()
            },
            progress: Progress::NONE,
            rows,
            classes: logits.classes,
            inputs: &[(Operand::StudentLogits, Input::Matrix(*logits))],
            result: Operand::Gradient,
            shard: None,
        })
        .await
    }

    /// Observe on slices, without blocking. See [`Cpu::observe`](crate::cpu::Cpu::observe).
    pub async fn observe_async(&self, config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
        validate::batch(config, batch)?;
        validate::no_class_weights(batch.class_weights.is_some())?;
        let inputs = observed(batch);
        self.run_step(&Step {
            kernel: Kernel::Observe,
            config: *config,
            progress: Progress::NONE,
            rows: batch.rows(),
            classes: batch.classes(),
            inputs: &inputs,
            result: Operand::RowStats,
            shard: None,
        })
        .await
    }

    /// Decide on slices, without blocking. See [`Cpu::decide`](crate::cpu::Cpu::decide).
    pub async fn decide_async(
        &self,
        config: &Config,
        progress: Progress,
        row_stats: &[RowStats],
        classes: usize,
    ) -> Result<Vec<Decision>> {
        validate::row_stats(config, row_stats, classes)?;
        validate::progress(config.selection, progress)?;
        let summary = stats_summary(row_stats);
        let mut inputs = vec![
            (
                Operand::RowStats,
                Input::List(bytemuck::cast_slice(row_stats), ROW_STATS_BYTES as usize),
            ),
            (
                Operand::StatsSummary,
                Input::Shared(bytemuck::bytes_of(&summary)),
            ),
        ];
        if row_stats.iter().any(RowStats::has_soft_label) {
            inputs.push((Operand::SoftLabels, Input::Matrix(NO_MATRIX)));
        }
        self.run_step(&Step {
            kernel: Kernel::Decide,
            config: *config,
            progress,
            rows: row_stats.len(),
            classes,
            inputs: &inputs,
            result: Operand::Decisions,
            shard: None,
        })
        .await
    }

    /// Apply on slices, without blocking. See [`Cpu::apply`](crate::cpu::Cpu::apply).
    pub async fn apply_async(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        validate::batch(config, batch)?;
        validate::no_class_weights(batch.class_weights.is_some())?;
        validate::new_gradient(config)?;
        validate::row_count("decisions", batch.rows(), decisions.len())?;
        self.apply_rows(config, batch, None, decisions).await
    }

    pub(super) async fn apply_rows(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        shard: Option<Shard>,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        let mut inputs = vec![
            (Operand::StudentLogits, Input::Matrix(batch.student_logits)),
            (Operand::TeacherLogits, Input::Matrix(teacher_of(batch))),
            (
                Operand::Decisions,
                Input::List(bytemuck::cast_slice(decisions), DECISION_BYTES as usize),
            ),
        ];
        if let Some(soft_labels) = batch.soft_labels {
            inputs.push((Operand::SoftLabels, Input::Matrix(soft_labels)));
        }
        // Decisions do not have the tail of a list.
        let stats = match batch.teacher_ids {
            Some(_) => self.observe_async(config, batch).await?,
            None => Vec::new(),
        };
        if let Some(ids) = listed(batch) {
            let stats = Input::List(bytemuck::cast_slice(&stats), ROW_STATS_BYTES as usize);
            inputs.extend([ids, (Operand::RowStats, stats)]);
        }
        self.run_step(&Step {
            kernel: Kernel::Apply,
            config: *config,
            progress: Progress::NONE,
            rows: batch.rows(),
            classes: batch.classes(),
            inputs: &inputs,
            result: Operand::Gradient,
            shard: shard.map(|shard| (shard, ShardStep::Apply)),
        })
        .await
    }

    /// Runs a step, one row range after the other.
    pub(super) async fn run_step<T: Pod>(&self, step: &Step<'_>) -> Result<Vec<T>> {
        let mut results = Vec::new();
        let widest = step.inputs.iter().map(|(_, input)| input.row_bytes()).max();
        // The step's plan holds the statistics of a row range in one binding, whether the step has them or not.
        let widest = widest
            .unwrap_or(0)
            .max(step.result_bytes())
            .max(ROW_STATS_BYTES as usize);
        let ranges = row_ranges(step.rows, widest, bound_bytes(&self.limits));
        if ranges.is_empty() {
            return Ok(results);
        }
        let plans = RangePlans::new(&ranges, |rows| step.plan(self, rows))?;
        for (i, range) in ranges.iter().enumerate() {
            let failures = Failures::watch(&self.device);
            let sent = self.send_step(step, plans.get(i, ranges.len()), range);
            failures.check(PREPARING).await?;
            sent?.wait(self).await?.append(0, &mut results)?;
        }
        Ok(results)
    }

    /// Uploads the inputs of a row range, records the step and submits it.
    fn send_step(&self, step: &Step<'_>, plan: &Plan, range: &Range<usize>) -> Result<Download> {
        let chunks = plan.chunks();
        let [chunk] = chunks else {
            return Err(Error::Gpu {
                doing: "a single step",
                reason: format!("a row range has {} chunks", chunks.len()),
            });
        };
        // Before the buffers, since drivers crash if they compile with no memory left.
        let variant = plan.variant_of(step.kernel);
        self.pipelines.get(&self.device, step.kernel, &variant)?;
        let lists = Lists {
            labels: List::new(padded(4 * range.len())),
            label_type: LabelType::I32,
            row_results: None,
            summary: None,
            row_weights: Some(List::new(padded(4 * range.len()))),
            class_weights: None,
            teacher_ids: step.input(Operand::TeacherIds).map(|input| {
                let bytes = input.row_bytes() * range.len();
                List::new(padded(bytes))
            }),
            row_metrics: None,
            shard: step.shard.map(|(_, of)| ShardLists {
                step: of,
                shards: 1,
                row_stats: List::new(ROW_STATS_BYTES * range.len() as u64),
                sweep_sums: Some(List::new(SWEEP_SUMS_BYTES * range.len() as u64)),
            }),
        };
        let builder = DispatchBuilder::new(plan, &step.config, step.progress, &lists);
        let builder = builder.with_classes(step.classes);
        let dispatch = builder.one(step.kernel, chunk, 0);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut buffers = Vec::new();
        for (_, window) in &dispatch.windows {
            let label = window.operand.name();
            let usage = wgpu::BufferUsages::STORAGE;
            let buffer = match step.input(window.operand) {
                Some(input) => {
                    let bytes = input.bytes(range);
                    upload(&self.device, &mut encoder, label, bytes, usage)?
                }
                None => output(&self.device, label, (window.offset + window.bytes) as usize)?,
            };
            buffers.push((window.operand, buffer));
        }
        let buffer_of = |operand| {
            let found = buffers.iter().find(|(own, _)| *own == operand);
            &found.expect("each operand of the dispatch has a buffer").1
        };
        self.record(&mut encoder, &[dispatch], &buffer_of)?;
        let bytes = range.len() * step.result_bytes();
        Download::submit(self, encoder, &[(Some(buffer_of(step.result)), bytes)])
    }
}
