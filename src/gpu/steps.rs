//! Each step of the method on its own, on slices.

use std::ops::Range;

use super::context::NO_PROGRESS;
use super::dispatch::{Buffers, lists};
use super::encode::{GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use super::memory::{Failures, PREPARING, output, upload, with_memory};
use super::pieces::{Uploaded, batch_pieces, longest, part, pieces, rows_of};
use super::readback::Download;
use super::run::Totals;
use super::{Gpu, Workspace};
use crate::plan::{
    Bindings, DECISION_BYTES, Matrix, Operand, Plan, Problem, ROW_STATS_BYTES, Tiling,
};
use crate::shader::Kernel;
use crate::{
    Batch, Config, Decision, Error, Logits, Progress, Result, RowStats, Scope, Storage, Summary,
    flags, validate,
};

/// The same with a scope that plans the steps one by one; the steps themselves are given the caller's.
fn step_by_step(config: &Config) -> Config {
    Config {
        scope: Scope::Batch,
        ..*config
    }
}

impl Gpu {
    /// A plan whose rows are not cut into pieces, so that one step is one dispatch.
    fn plan_of_step(
        &self,
        config: &Config,
        batch: &GpuBatch<'_>,
        outputs: &GpuOutputs<'_>,
    ) -> Result<Plan> {
        let tiling = Tiling {
            segments: 1,
            ..Tiling::for_shape(batch.rows, batch.student_logits.classes, &self.limits)
        };
        self.plan_with_tiling(config, batch, outputs, &tiling)
    }

    /// Records one step of a plan, for its only chunk: decisions are kept of one at a time.
    fn encode_step(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        kernel: Kernel,
        plan: &Plan,
        (config, progress): (&Config, Progress),
        buffers: &Buffers<'_>,
    ) -> Result<()> {
        let chunks = plan.chunks();
        if chunks.len() > 1 {
            return Err(Error::Gpu {
                doing: "a step on its own",
                reason: format!("a piece has {} chunks", chunks.len()),
            });
        }
        let lists = lists(buffers.batch, buffers.outputs);
        // Not the plan's: that of `decide` knows no classes.
        let classes = buffers.batch.student_logits.classes;
        let bindings = Bindings::new(plan, config, progress, &lists).with_classes(classes);
        let chunks = chunks.iter();
        let dispatches: Vec<_> = chunks.map(|c| bindings.one(kernel, c, 0)).collect();
        self.record(encoder, &dispatches, buffers)
    }

    /// Softmax on slices, without blocking. See [`Cpu::softmax`](crate::cpu::Cpu::softmax).
    pub async fn softmax_async(
        &self,
        logits: &Logits<'_>,
        rows: usize,
        temperature: f32,
    ) -> Result<Vec<f32>> {
        validate::temperature("temperature", temperature)?;
        validate::logits("logits", logits, rows)?;
        let config = Config {
            student_temperature: temperature,
            ..Config::default()
        };
        let mut out = Vec::new();
        let row = logits.row_stride * logits.values.storage().bytes();
        let pieces = pieces(rows, row.max(4 * logits.classes), self.bound_bytes());
        let alike = Batch {
            student_logits: *logits,
            teacher_logits: *logits,
            labels: &[],
        };
        self.check_piece(&config, &alike, longest(&pieces), Some(Storage::F32), true)?;
        for range in pieces {
            let failures = Failures::watch(&self.device);
            let sent = self.send_softmax(&config, logits, &range);
            failures.check(PREPARING).await?;
            let (mut download, bytes) = sent?;
            let all = download.next_bytes(bytes);
            download.wait(self).await?.append(&all, &mut out)?;
        }
        Ok(out)
    }

    fn send_softmax(
        &self,
        config: &Config,
        logits: &Logits<'_>,
        range: &Range<usize>,
    ) -> Result<(Download, usize)> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let usage = wgpu::BufferUsages::STORAGE;
        let student = upload(
            &self.device,
            &mut encoder,
            "logits",
            rows_of(logits, range),
            usage,
        )?;
        let bytes = range.len() * logits.classes * 4;
        let out = output(&self.device, "probabilities", bytes)?;
        let on = GpuLogits {
            buffer: &student,
            offset: 0,
            storage: logits.values.storage(),
            classes: logits.classes,
            row_stride: logits.row_stride,
        };
        let labels = output(&self.device, "labels", 4 * range.len())?;
        let batch = GpuBatch {
            rows: range.len(),
            student_logits: on,
            teacher_logits: on,
            labels: GpuSlice {
                buffer: &labels,
                offset: 0,
            },
        };
        let outputs = GpuOutputs {
            gradient: Some(GpuLogits::new(&out, Storage::F32, logits.classes)),
            ..GpuOutputs::default()
        };
        let plan = self.plan_of_step(config, &batch, &outputs)?;
        let workspace = with_memory(&self.device, || Workspace::new(&self.device, &plan))?;
        let buffers = Buffers {
            batch: &batch,
            outputs: &outputs,
            workspace: &workspace,
        };
        let when = (config, NO_PROGRESS);
        self.encode_step(&mut encoder, Kernel::Softmax, &plan, when, &buffers)?;
        Ok((Download::submit(self, encoder, &[(&out, bytes)])?, bytes))
    }

    /// Observe on slices, without blocking. See [`Cpu::observe`](crate::cpu::Cpu::observe).
    pub async fn observe_async(&self, config: &Config, batch: &Batch<'_>) -> Result<Vec<RowStats>> {
        validate::batch(config, batch)?;
        let mut out = Vec::new();
        let config = step_by_step(config);
        let pieces = batch_pieces(batch, self.bound_bytes());
        self.check_piece(&config, batch, longest(&pieces), None, true)?;
        for range in pieces {
            let part = part(batch, &range);
            let failures = Failures::watch(&self.device);
            let sent = self.send_observe(&config, &part);
            failures.check(PREPARING).await?;
            let mut download = sent?;
            let all = download.next::<RowStats>(range.len());
            download.wait(self).await?.append(&all, &mut out)?;
        }
        Ok(out)
    }

    fn send_observe(&self, config: &Config, batch: &Batch<'_>) -> Result<Download> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let uploaded = Uploaded::new(self, &mut encoder, batch)?;
        let on_device = uploaded.batch(batch);
        let outputs = GpuOutputs::default();
        let plan = self.plan_of_step(config, &on_device, &outputs)?;
        let workspace = with_memory(&self.device, || Workspace::new(&self.device, &plan))?;
        let buffers = Buffers {
            batch: &on_device,
            outputs: &outputs,
            workspace: &workspace,
        };
        let when = (config, NO_PROGRESS);
        self.encode_step(&mut encoder, Kernel::Observe, &plan, when, &buffers)?;
        let bytes = batch.rows() * ROW_STATS_BYTES as usize;
        Download::submit(
            self,
            encoder,
            &[(workspace.buffer(Operand::RowStats), bytes)],
        )
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
        let mut total = Totals::default();
        let mut observed = Summary::default();
        for stats in row_stats {
            let bad = flags::IGNORED | flags::INVALID_LABEL;
            observed.valid_rows += u32::from(stats.flags & bad == 0);
            if stats.flags & (bad | flags::NON_FINITE) == 0 {
                total.averaged += 1;
                total.kdr += f64::from(stats.kdr);
            }
        }
        observed.kdr = total.summary().kdr;
        let mut out = Vec::new();
        for range in pieces(
            row_stats.len(),
            ROW_STATS_BYTES as usize,
            self.bound_bytes(),
        ) {
            let failures = Failures::watch(&self.device);
            let stats = &row_stats[range.clone()];
            let sent = self.send_decide(config, progress, stats, classes, &observed);
            failures.check(PREPARING).await?;
            let mut download = sent?;
            let all = download.next::<Decision>(range.len());
            download.wait(self).await?.append(&all, &mut out)?;
        }
        Ok(out)
    }

    fn send_decide(
        &self,
        config: &Config,
        progress: Progress,
        row_stats: &[RowStats],
        classes: usize,
        observed: &Summary,
    ) -> Result<Download> {
        let matrix = Matrix {
            storage: Storage::F32,
            row_stride: 1,
            offset: 0,
            buffer_bytes: u64::MAX,
        };
        // `decide` never sees a logit: the matrices have no rows, the plan has them all.
        let problem = Problem {
            rows: row_stats.len(),
            classes: 1,
            teacher_classes: 1,
            student: matrix,
            teacher: matrix,
            gradient: None,
            shared_buffers: false,
            in_place: false,
        };
        let plan = Plan::new(&step_by_step(config), &problem, &self.limits)?;
        let mut workspace = with_memory(&self.device, || Workspace::new(&self.device, &plan))?;
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut make = |name, bytes| {
            let usage = wgpu::BufferUsages::STORAGE;
            upload(&self.device, &mut encoder, name, bytes, usage)
        };
        let stats = make("row_stats", bytemuck::cast_slice(row_stats))?;
        workspace.replace(Operand::RowStats, stats);
        let observed = make("stats_summary", bytemuck::bytes_of(observed))?;
        workspace.replace(Operand::StatsSummary, observed);
        let labels = output(&self.device, "labels", 16)?;
        let logits = GpuLogits::new(&labels, Storage::F32, classes);
        let batch = GpuBatch {
            rows: 0,
            student_logits: logits,
            teacher_logits: logits,
            labels: GpuSlice {
                buffer: &labels,
                offset: 0,
            },
        };
        let outputs = GpuOutputs::default();
        let buffers = Buffers {
            batch: &batch,
            outputs: &outputs,
            workspace: &workspace,
        };
        let when = (config, progress);
        self.encode_step(&mut encoder, Kernel::Decide, &plan, when, &buffers)?;
        let bytes = row_stats.len() * DECISION_BYTES as usize;
        Download::submit(
            self,
            encoder,
            &[(workspace.buffer(Operand::Decisions), bytes)],
        )
    }

    /// Apply on slices, without blocking. See [`Cpu::apply`](crate::cpu::Cpu::apply).
    pub async fn apply_async(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        decisions: &[Decision],
    ) -> Result<Vec<f32>> {
        validate::batch(config, batch)?;
        validate::new_gradient(config)?;
        validate::row_count("decisions", batch.rows(), decisions.len())?;
        let config = step_by_step(config);
        let mut out = Vec::new();
        let pieces = batch_pieces(batch, self.bound_bytes());
        self.check_piece(&config, batch, longest(&pieces), Some(Storage::F32), true)?;
        for range in pieces {
            let part = part(batch, &range);
            let failures = Failures::watch(&self.device);
            let sent = self.send_apply(&config, &part, &decisions[range]);
            failures.check(PREPARING).await?;
            let (mut download, bytes) = sent?;
            let all = download.next_bytes(bytes);
            download.wait(self).await?.append(&all, &mut out)?;
        }
        Ok(out)
    }

    fn send_apply(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        decisions: &[Decision],
    ) -> Result<(Download, usize)> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let uploaded = Uploaded::new(self, &mut encoder, batch)?;
        let on_device = uploaded.batch(batch);
        let bytes = batch.rows() * batch.classes() * 4;
        let out = output(&self.device, "grad_student_logits", bytes)?;
        let outputs = GpuOutputs {
            gradient: Some(GpuLogits::new(&out, Storage::F32, batch.classes())),
            ..GpuOutputs::default()
        };
        let plan = self.plan_of_step(config, &on_device, &outputs)?;
        let mut workspace = with_memory(&self.device, || Workspace::new(&self.device, &plan))?;
        let (bytes_of, usage) = (bytemuck::cast_slice(decisions), wgpu::BufferUsages::STORAGE);
        let uploaded = upload(&self.device, &mut encoder, "decisions", bytes_of, usage)?;
        workspace.replace(Operand::Decisions, uploaded);
        let buffers = Buffers {
            batch: &on_device,
            outputs: &outputs,
            workspace: &workspace,
        };
        let when = (config, NO_PROGRESS);
        self.encode_step(&mut encoder, Kernel::Apply, &plan, when, &buffers)?;
        Ok((Download::submit(self, encoder, &[(&out, bytes)])?, bytes))
    }
}
