//! The passes over the chunks of a batch.

use std::ops::Range;
use std::sync::PoisonError;

use super::batch::{LinearBatch, LinearOutputs};
use super::chunks::Shape;
use super::memory::Memory;
use super::products::{self, Segments};
use crate::cpu::Cpu;
use crate::parts::{Parts, SummaryAccumulator, part};
use crate::{
    Config, GradWrite, GradientMut, Logits, OutputsMut, Progress, Result, RowMetrics, RowResult,
    Summary, flags,
};

/// A call whose arguments were checked.
pub(super) struct Call<'a> {
    pub cpu: &'a Cpu,
    pub progress: Progress,
    pub batch: &'a LinearBatch<'a>,
    /// The rows that are not ignored, in order. The chunks are chunks of this list.
    kept: Vec<u32>,
    shape: Shape,
    chunk_rows: usize,
}

/// Neighbouring rows of the batch that are neighbours in a chunk, with their part of the chunk's memory.
struct Block<'a> {
    rows: Range<usize>,
    student: &'a mut [f32],
    teacher: &'a [f32],
    results: &'a mut [RowResult],
    metrics: &'a mut [RowMetrics],
}

/// Splits off the first `n` elements of a slice, or all that there are.
fn take<'a, T>(rest: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let all = std::mem::take(rest);
    let (first, others) = all.split_at_mut(n.min(all.len()));
    *rest = others;
    first
}

/// Copies rows of `columns` elements side by side.
fn gather(from: &[f32], columns: usize, rows: &[u32], to: &mut [f32]) {
    for (to, &row) in to.chunks_exact_mut(columns).zip(rows) {
        let start = row as usize * columns;
        to.copy_from_slice(&from[start..start + columns]);
    }
}

impl<'a> Call<'a> {
    pub fn new(
        cpu: &'a Cpu,
        config: &Config,
        progress: Progress,
        batch: &'a LinearBatch<'a>,
        budget: Option<usize>,
    ) -> Self {
        let rows = batch.labels.iter().enumerate();
        let kept = rows.filter(|(_, label)| **label != config.ignore_index);
        let kept: Vec<u32> = kept.map(|(row, _)| row as u32).collect();
        let shape = Shape {
            rows: kept.len(),
            ..Shape::of(batch)
        };
        Self {
            cpu,
            progress,
            batch,
            kept,
            shape,
            chunk_rows: shape.chunk_rows(budget),
        }
    }

    pub fn run(
        &self,
        config: &Config,
        memory: &mut Memory,
        mut outputs: LinearOutputs<'_>,
    ) -> Result<Summary> {
        if self.kept.is_empty() {
            self.ignore_rows(config, &mut outputs);
            return Ok(self.summary(&SummaryAccumulator::default()));
        }
        memory.fit(self.chunk_rows, &self.shape, self.cpu.threads(), &outputs)?;
        self.ignore_rows(config, &mut outputs);
        let parts = Parts::new(config, self.batch.labels, self.shape.classes);
        let mut config = parts.config;
        let one_chunk = self.kept.len() <= self.chunk_rows;
        let observed = parts.observing.is_some();
        if let Some(own) = parts.observing {
            let mut total = SummaryAccumulator::default();
            for rows in self.kept.chunks(self.chunk_rows) {
                self.logits(rows, memory);
                self.losses(&own, rows, memory, [false; 2], &mut total)?;
            }
            config = Parts::with_kdr(config, &total.summary());
        }
        let with = [outputs.have_gradient(), outputs.metrics.is_some()];
        let of_logits = Config {
            grad_write: GradWrite::Overwrite,
            ..config
        };
        let accumulate = config.grad_write == GradWrite::Accumulate;
        let mut total = SummaryAccumulator::default();
        for (i, rows) in self.kept.chunks(self.chunk_rows).enumerate() {
            if !(observed && one_chunk) {
                self.logits(rows, memory);
            }
            self.losses(&of_logits, rows, memory, with, &mut total)?;
            self.store(rows, memory, &mut outputs);
            let add = [accumulate, accumulate || i > 0];
            self.gradients(rows, memory, &mut outputs, add);
        }
        Ok(self.summary(&total))
    }

    /// The summary with the ignored rows, which are in no chunk.
    fn summary(&self, total: &SummaryAccumulator) -> Summary {
        Summary {
            ignored_rows: (self.batch.rows() - self.kept.len()) as u32,
            ..total.summary()
        }
    }

    /// Writes the outputs of rows that are in no chunk, and the head's gradient if there is no chunk.
    fn ignore_rows(&self, config: &Config, outputs: &mut LinearOutputs<'_>) {
        if let Some(rows) = &mut outputs.rows {
            rows.fill(RowResult {
                flags: flags::IGNORED,
                ..RowResult::default()
            });
        }
        if let Some(metrics) = &mut outputs.metrics {
            metrics.fill(RowMetrics::default());
        }
        if config.grad_write == GradWrite::Accumulate {
            return;
        }
        if let Some(gradient) = &mut outputs.grad_hidden_states {
            let rows = gradient.chunks_exact_mut(self.shape.hidden);
            for (gradient, label) in rows.zip(self.batch.labels) {
                if *label == config.ignore_index {
                    gradient.fill(0.0);
                }
            }
        }
        if self.kept.is_empty() {
            let head = [&mut outputs.grad_weights, &mut outputs.grad_bias];
            head.into_iter()
                .flatten()
                .for_each(|gradient| gradient.fill(0.0));
        }
    }

    /// Computes the logits of a chunk.
    fn logits(&self, rows: &[u32], memory: &mut Memory) {
        let (n, shape) = (rows.len(), self.shape);
        let student = &self.batch.student;
        let hidden_states = &mut memory.hidden_states[..n * shape.hidden];
        gather(student.hidden_states, shape.hidden, rows, hidden_states);
        let out = &mut memory.student[..n * shape.classes];
        products::logits(self.cpu, student, hidden_states, shape.classes, out);
        if let Some(teacher) = self.batch.teacher_head() {
            let hidden_states = &mut memory.teacher_hidden_states[..n * shape.teacher_hidden];
            gather(
                teacher.hidden_states,
                shape.teacher_hidden,
                rows,
                hidden_states,
            );
            let columns = shape.teacher_columns;
            let out = &mut memory.teacher[..n * columns];
            products::logits(self.cpu, &teacher, hidden_states, columns, out);
        }
    }

    /// Cuts a chunk into blocks.
    fn blocks<'m>(&self, rows: &[u32], memory: Chunk<'m>) -> Vec<Block<'m>> {
        let (classes, columns) = (self.shape.classes, self.shape.teacher_columns);
        let most = Cpu::rows_at_a_time(rows.len(), classes);
        let Chunk {
            mut student,
            mut teacher,
            mut results,
            mut metrics,
        } = memory;
        let mut blocks = Vec::new();
        let mut start = 0;
        while start < rows.len() {
            let first = rows[start] as usize;
            let near = rows[start..].iter().take(most).enumerate();
            let n = near
                .take_while(|(i, row)| **row as usize == first + i)
                .count();
            let (own, others) = teacher.split_at(n * columns);
            teacher = others;
            blocks.push(Block {
                rows: first..first + n,
                student: take(&mut student, n * classes),
                teacher: own,
                results: take(&mut results, n),
                metrics: take(&mut metrics, n),
            });
            start += n;
        }
        blocks
    }

    /// Runs the engine on the logits of a chunk. With a gradient, it overwrites them.
    fn losses(
        &self,
        config: &Config,
        rows: &[u32],
        memory: &mut Memory,
        [gradient, metrics]: [bool; 2],
        total: &mut SummaryAccumulator,
    ) -> Result<()> {
        let n = rows.len();
        let (classes, columns) = (self.shape.classes, self.shape.teacher_columns);
        let with_metrics = if metrics { n } else { 0 };
        let chunk = Chunk {
            student: &mut memory.student[..n * classes],
            teacher: &memory.teacher[..n * columns],
            results: &mut memory.results[..n],
            metrics: &mut memory.metrics[..with_metrics],
        };
        let others = self.batch.without_products();
        let head = self.batch.teacher_head().is_some();
        let spare = &memory.spare;
        let lock = || spare.lock().unwrap_or_else(PoisonError::into_inner);
        let summaries = self.cpu.share(self.blocks(rows, chunk), |block| {
            let mut batch = part(&others, &block.rows);
            if head {
                batch.teacher_logits = Logits::new(block.teacher, columns);
            }
            let mut outputs = OutputsMut {
                rows: Some(block.results),
                metrics: metrics.then_some(block.metrics),
                gradient: None,
            };
            if !gradient {
                batch.student_logits = Logits::new(&*block.student, classes);
                return self.cpu.run_checked(config, self.progress, &batch, outputs);
            }
            // There is one for each thread.
            let mut copy = lock().pop().unwrap_or_default();
            copy.resize(copy.len().max(block.student.len()), 0.0);
            let logits = &mut copy[..block.student.len()];
            logits.copy_from_slice(block.student);
            batch.student_logits = Logits::new(&*logits, classes);
            outputs.gradient = Some(GradientMut::new(block.student, classes));
            let summary = self.cpu.run_checked(config, self.progress, &batch, outputs);
            lock().push(copy);
            summary
        });
        for summary in summaries {
            total.add(&summary?);
        }
        Ok(())
    }

    /// Stores the results of the rows of a chunk.
    fn store(&self, rows: &[u32], memory: &Memory, outputs: &mut LinearOutputs<'_>) {
        if let Some(results) = &mut outputs.rows {
            for (result, &row) in memory.results.iter().zip(rows) {
                results[row as usize] = *result;
            }
        }
        if let Some(metrics) = &mut outputs.metrics {
            for (own, &row) in memory.metrics.iter().zip(rows) {
                metrics[row as usize] = *own;
            }
        }
    }

    /// Computes the gradients of a chunk from that of its logits. `add` says which are added to the memory: that of the hidden states,
    /// those of the head.
    fn gradients(
        &self,
        rows: &[u32],
        memory: &mut Memory,
        outputs: &mut LinearOutputs<'_>,
        [add_hidden, add_head]: [bool; 2],
    ) {
        let (n, hidden, classes) = (rows.len(), self.shape.hidden, self.shape.classes);
        let grad_logits = &memory.student[..n * classes];
        let is_skipped = |i: usize| memory.results[i].is_skipped();
        if let Some(out) = &mut outputs.grad_hidden_states {
            let segments = Segments::of(classes, hidden).count;
            let parts = &mut memory.grad_hidden_states[..segments * n * hidden];
            products::grad_hidden_states(self.cpu, &self.batch.student, grad_logits, parts);
            for (i, &row) in rows.iter().enumerate() {
                let out = &mut out[row as usize * hidden..][..hidden];
                if !add_hidden {
                    out.fill(0.0);
                }
                // 0 times a weight that is not finite would be NaN.
                if !is_skipped(i) {
                    for part in parts.chunks_exact(n * hidden) {
                        let own = &part[i * hidden..][..hidden];
                        out.iter_mut().zip(own).for_each(|(out, own)| *out += own);
                    }
                }
            }
        }
        let (weights, bias) = (&mut outputs.grad_weights, &mut outputs.grad_bias);
        if weights.is_none() && bias.is_none() {
            return;
        }
        let hidden_states = &mut memory.hidden_states[..n * hidden];
        for (i, own) in hidden_states.chunks_exact_mut(hidden).enumerate() {
            // The same for hidden states.
            if is_skipped(i) {
                own.fill(0.0);
            }
        }
        let operands = [&*hidden_states, grad_logits];
        let out = (weights.as_deref_mut(), bias.as_deref_mut());
        products::grad_head(self.cpu, operands, [hidden, classes], out, add_head);
    }
}

/// The memory of the rows of a chunk.
struct Chunk<'a> {
    student: &'a mut [f32],
    teacher: &'a [f32],
    results: &'a mut [RowResult],
    metrics: &'a mut [RowMetrics],
}
