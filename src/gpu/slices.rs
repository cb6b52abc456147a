//! The whole method on slices: uploads, records, submits and reads back.

use std::ops::Range;

use super::buffers::{CallerBuffers, GpuLogits, GpuOutputs, GpuSlice};
use super::device::Gpu;
use super::memory::{Failures, PREPARING, output};
use super::readback::Download;
use super::row_ranges::{
    RangePlans, one_buffer_each, problem, row_bytes, row_ranges, split_outputs, teacher_of,
    upload_bytes,
};
use super::summaries::check_counts;
use super::upload::{UploadedBatch, bytes_of, upload_gradient};
use crate::cpu::{zero_gradient, zeros};
use crate::parts::{Parts, SummaryAccumulator, part};
use crate::plan::{DispatchBuilder, Plan, Problem};
use crate::{
    Batch, Config, Distillation, GradWrite, GradientMut, Outputs, OutputsMut, Progress, Result,
    RowReport, Storage, Summary, validate,
};

impl Gpu {
    /// Computes the whole method on slices, without blocking. See [`Engine::run`](crate::Engine::run).
    pub async fn run_async(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: Outputs,
    ) -> Result<Distillation> {
        validate::new_run(config, progress, batch)?;
        let (count, classes) = (batch.rows(), batch.classes());
        let elements = validate::elements(count, classes)?;
        let wanted = (outputs.gradient, outputs.metrics);
        let work = RowRanges::new(self, config, batch, wanted)?;
        let mut rows = zeros(if outputs.rows { count } else { 0 })?;
        let mut metrics = zeros(if outputs.metrics { count } else { 0 })?;
        let gradient = outputs.gradient.map(|s| zero_gradient(s, elements));
        let mut gradient = gradient.transpose()?;
        let memory = OutputsMut {
            rows: outputs.rows.then_some(&mut rows),
            metrics: outputs.metrics.then_some(&mut metrics),
            gradient: gradient.as_mut().map(|g| GradientMut::new(g, classes)),
        };
        let summary = self.run_ranges(work, progress, batch, memory).await?;
        Ok(Distillation {
            summary,
            rows,
            metrics,
            gradient,
        })
    }

    /// Computes the whole method on slices into the caller's memory, without blocking. See [`Engine::run_into`](crate::Engine::run_into).
    pub async fn run_into_async(
        &self,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        validate::run_into(config, progress, batch, &outputs)?;
        let storage = outputs.gradient.as_ref().map(|g| g.values.storage());
        let wanted = (storage, outputs.metrics.is_some());
        let work = RowRanges::new(self, config, batch, wanted)?;
        self.run_ranges(work, progress, batch, outputs).await
    }

    async fn run_ranges(
        &self,
        work: Option<RowRanges>,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        let Some(mut work) = work else {
            return Ok(Summary::default());
        };
        if let Some((config, plans)) = work.observing.take() {
            let summary = OutputsMut::default();
            let pass = self.pass(&work.ranges, &plans, &config, progress, batch, summary);
            work.config = Parts::with_kdr(work.config, &pass.await?);
        }
        let (ranges, plans) = (&work.ranges, &work.plans);
        self.pass(ranges, plans, &work.config, progress, batch, outputs)
            .await
    }

    /// Runs every row range once and adds up their summaries.
    async fn pass(
        &self,
        ranges: &[Range<usize>],
        plans: &RangePlans,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        if let [_] = ranges {
            let plan = plans.get(0, 1);
            return self.run_range(plan, config, progress, batch, outputs).await;
        }
        let mut total = SummaryAccumulator::default();
        let mut rest = outputs;
        for (i, range) in ranges.iter().enumerate() {
            let (own, others) = split_outputs(rest, range.len());
            rest = others;
            let part = part(batch, range);
            let plan = plans.get(i, ranges.len());
            let summary = self.run_range(plan, config, progress, &part, own).await?;
            total.add(&summary);
        }
        Ok(total.summary())
    }

    async fn run_range(
        &self,
        plan: &Plan,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        mut outputs: OutputsMut<'_>,
    ) -> Result<Summary> {
        let failures = Failures::watch(&self.device);
        let sent = self.send(plan, config, progress, batch, &mut outputs);
        failures.check(PREPARING).await?;
        let results = sent?.wait(self).await?;
        let summary: Summary = bytemuck::pod_read_unaligned(results.part(0));
        check_counts(&summary, batch.rows())?;
        if let Some(metrics) = outputs.metrics {
            let reports = results.part(1).chunks_exact(size_of::<RowReport>());
            let mut rows = outputs.rows.unwrap_or_default().iter_mut();
            for (metrics, bytes) in metrics.iter_mut().zip(reports) {
                let report: RowReport = bytemuck::pod_read_unaligned(bytes);
                *metrics = report.metrics;
                if let Some(result) = rows.next() {
                    *result = report.result;
                }
            }
        } else if let Some(rows) = outputs.rows {
            bytemuck::cast_slice_mut(rows).copy_from_slice(results.part(1));
        }
        if let Some(mut gradient) = outputs.gradient {
            let rows = results.part(2);
            let row_bytes = batch.classes() * gradient.values.storage().bytes();
            if gradient.row_stride == gradient.classes {
                bytes_of(gradient.values).copy_from_slice(rows);
            } else {
                for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
                    bytes_of(gradient.row(row)).copy_from_slice(bytes);
                }
            }
        }
        Ok(summary)
    }

    /// Uploads, records and submits; the download has the summary, the rows' results and the gradient.
    fn send(
        &self,
        plan: &Plan,
        config: &Config,
        progress: Progress,
        batch: &Batch<'_>,
        outputs: &mut OutputsMut<'_>,
    ) -> Result<Download> {
        let device = &self.device;
        let (rows, classes) = (batch.rows(), batch.classes());
        // Before the buffers, since drivers crash if they compile with no memory left.
        self.compile(plan)?;
        let mut encoder = device.create_command_encoder(&Default::default());
        let uploaded = UploadedBatch::new(device, &mut encoder, batch)?;
        let summary = output(device, "summary", size_of::<Summary>())?;
        // With metrics, the rows' results come with them.
        let with_metrics = outputs.metrics.is_some();
        let (name, row_bytes) = match (with_metrics, outputs.rows.as_deref()) {
            (true, _) => ("row_metrics", rows * size_of::<RowReport>()),
            (false, results) => ("row_results", results.map_or(0, size_of_val)),
        };
        let per_row = match row_bytes {
            0 => None,
            bytes => Some(output(device, name, bytes)?),
        };
        let storage = outputs.gradient.as_ref().map(|g| g.values.storage());
        let gradient_bytes = storage.map_or(0, |s| rows * classes * s.bytes());
        let gradient = match &mut outputs.gradient {
            Some(g) if config.grad_write == GradWrite::Accumulate => {
                Some(upload_gradient(device, &mut encoder, g, rows)?)
            }
            Some(_) => Some(output(device, "gradient", gradient_bytes)?),
            None => None,
        };
        let at = |buffer| GpuSlice { buffer, offset: 0 };
        let targets = GpuOutputs {
            summary: Some(at(&summary)),
            row_results: per_row.as_ref().filter(|_| !with_metrics).map(at),
            row_metrics: per_row.as_ref().filter(|_| with_metrics).map(at),
            gradient: gradient
                .as_ref()
                .zip(storage)
                .map(|(buffer, storage)| GpuLogits::new(buffer, storage, classes)),
        };
        let buffers = CallerBuffers {
            batch: &uploaded.batch(batch),
            outputs: &targets,
            shard: None,
        };
        #[cfg(any(test, debug_assertions))]
        assert!(plan.is_for(config, &super::checks::problem(config, buffers)?));
        let lists = buffers.lists();
        let dispatches = DispatchBuilder::new(plan, config, progress, &lists).all();
        self.record_plan(&mut encoder, plan, &dispatches, buffers, None)?;
        let parts = [
            (Some(&summary), size_of::<Summary>()),
            (per_row.as_ref(), row_bytes),
            (gradient.as_ref(), gradient_bytes),
        ];
        Download::submit(self, encoder, &parts)
    }
}

/// A batch in row ranges, with a configuration under which the ranges are independent.
struct RowRanges {
    config: Config,
    ranges: Vec<Range<usize>>,
    plans: RangePlans,
    /// For `Batch` scope over several ranges: the pass that finds the mean KDR.
    observing: Option<(Config, RangePlans)>,
}

impl RowRanges {
    /// Cuts and plans a batch before any of it is uploaded; `None` for a batch without rows.
    ///
    /// # Errors
    /// Those of the plan: a row that no binding or no buffer holds.
    fn new(
        gpu: &Gpu,
        config: &Config,
        batch: &Batch<'_>,
        (gradient, metrics): (Option<Storage>, bool),
    ) -> Result<Option<Self>> {
        validate::listed::metrics(config, batch, metrics)?;
        let (student, teacher) = (batch.student_logits, teacher_of(batch));
        let widest = row_bytes(&student).max(row_bytes(&batch.teacher_logits));
        let soft_labels = batch.soft_labels.as_ref();
        let widest = widest.max(soft_labels.map_or(0, row_bytes));
        let widest = widest.max(4 * batch.classes());
        let ranges = row_ranges(batch.rows(), widest, upload_bytes(&gpu.limits));
        if ranges.is_empty() {
            return Ok(None);
        }
        let limits = one_buffer_each(&gpu.limits);
        let plans = |config: &Config, gradient, metrics| {
            RangePlans::new(&ranges, |rows| {
                let problem = Problem {
                    row_weights: batch.row_weights.is_some(),
                    class_weights: batch.class_weights.is_some(),
                    teacher_list: batch.teacher_ids.is_some(),
                    metrics,
                    ..problem(rows, &student, &teacher, soft_labels, gradient)
                };
                Plan::new(config, &problem, &limits)
            })
        };
        let (labels, classes) = (batch.labels, batch.classes());
        let Parts { config, observing } = match ranges.len() {
            1 => Parts {
                config: *config,
                observing: None,
            },
            _ => Parts::new(config, labels, classes),
        };
        let observing = observing.map(|own| Ok((own, plans(&own, None, false)?)));
        let observing = observing.transpose()?;
        let plans = plans(&config, gradient, metrics)?;
        Ok(Some(Self {
            config,
            ranges,
            plans,
            observing,
        }))
    }
}
