//! Checks of caller buffers.

use super::buffers::{CallerBuffers, GpuLogits, GpuSlice};
use crate::plan::{
    Dispatch, Problem, ROW_REPORT_BYTES, ROW_RESULT_BYTES, SUMMARY_BYTES, check_bindings,
};
use crate::{Config, Error, Result, validate};

/// Bytes `[start, end)` of a buffer, with its name in errors.
struct Region<'a> {
    name: &'static str,
    buffer: &'a wgpu::Buffer,
    start: u64,
    end: u64,
}

impl<'a> Region<'a> {
    fn slice(name: &'static str, slice: &GpuSlice<'a>, bytes: u64) -> Self {
        Self {
            name,
            buffer: slice.buffer,
            start: slice.offset,
            end: slice.offset.saturating_add(bytes),
        }
    }

    fn logits(name: &'static str, logits: &GpuLogits<'a>, rows: usize) -> Self {
        Self {
            name,
            buffer: logits.buffer,
            start: logits.offset,
            end: logits.matrix().end(rows, logits.classes),
        }
    }

    fn check(&self, alignment: u64) -> Result<()> {
        let usage = self.buffer.usage();
        if !usage.contains(wgpu::BufferUsages::STORAGE) {
            return Err(Error::BufferUsage {
                name: self.name,
                needed: "STORAGE".to_owned(),
                got: format!("{usage:?}"),
            });
        }
        // Bindings are whole 32-bit words: an odd number of 16-bit elements needs one more.
        let end = self.end.checked_next_multiple_of(4).unwrap_or(u64::MAX);
        validate::region(self.name, self.start..end, alignment, self.buffer.size())
    }
}

/// Checks the buffers and returns the problem that a plan is made for.
pub(super) fn problem(config: &Config, buffers: CallerBuffers<'_>) -> Result<Problem> {
    let CallerBuffers {
        batch,
        outputs,
        shard,
    } = buffers;
    let (student, teacher) = (&batch.student_logits, &batch.teacher_logits);
    let rows = batch.rows;
    validate::shape("student_logits", rows, student.classes, student.row_stride)?;
    validate::shape("teacher_logits", rows, teacher.classes, teacher.row_stride)?;
    let is_list = batch.teacher_ids.is_some();
    match shard {
        Some(_) => validate::shards::teacher_columns(config, student.classes, teacher.classes)?,
        None => validate::teacher(config, student.classes, teacher.classes, is_list)?,
    }
    Region::logits("student_logits", student, rows).check(student.storage.bytes() as u64)?;
    Region::logits("teacher_logits", teacher, rows).check(teacher.storage.bytes() as u64)?;
    let labels = &batch.labels;
    let label_bytes = labels.label_type.bytes();
    Region::slice("labels", &labels.slice, label_bytes * rows as u64).check(label_bytes)?;
    if let Some(ids) = &batch.teacher_ids {
        Region::slice("teacher_ids", ids, 4 * (rows * teacher.classes) as u64).check(4)?;
    }
    if let Some(soft_labels) = &batch.soft_labels {
        let GpuLogits {
            classes,
            row_stride,
            storage,
            ..
        } = *soft_labels;
        validate::shape("soft_labels", rows, classes, row_stride)?;
        validate::soft_labels::classes(student.classes, classes)?;
        validate::soft_labels::choices(config, batch.class_weights.is_some())?;
        Region::logits("soft_labels", soft_labels, rows).check(storage.bytes() as u64)?;
    }
    if let Some(weights) = &batch.row_weights {
        Region::slice("row_weights", weights, 4 * rows as u64).check(4)?;
    }
    if let Some(weights) = &batch.class_weights {
        validate::class_weighting(config)?;
        Region::slice("class_weights", weights, 4 * student.classes as u64).check(4)?;
    }
    if let Some(gradient) = &outputs.gradient {
        validate::shape("gradient", rows, gradient.classes, gradient.row_stride)?;
        if gradient.classes != student.classes {
            return Err(Error::GradientShape {
                classes: student.classes,
                got: gradient.classes,
            });
        }
        Region::logits("gradient", gradient, rows).check(gradient.storage.bytes() as u64)?;
    }
    if let Some(results) = &outputs.row_results {
        Region::slice("row_results", results, ROW_RESULT_BYTES * rows as u64)
            .check(ROW_RESULT_BYTES)?;
    }
    if let Some(metrics) = &outputs.row_metrics {
        Region::slice("row_metrics", metrics, ROW_REPORT_BYTES * rows as u64)
            .check(ROW_REPORT_BYTES)?;
        if outputs.row_results.is_some() {
            return Err(validate::results_twice());
        }
    }
    if let Some(summary) = &outputs.summary {
        Region::slice("summary", summary, SUMMARY_BYTES).check(256)?;
    }
    if let Some(shard) = &shard {
        let lists = shard.lists();
        let [stats, sums] = lists.bytes(rows);
        Region::slice("row_stats", &shard.stats.row_stats, stats).check(256)?;
        if let Some(list) = &shard.stats.sweep_sums {
            Region::slice("sweep_sums", list, sums).check(256)?;
        }
    }
    let gradient = outputs.gradient.map(|g| g.matrix());
    let [student, teacher] = [student, teacher].map(|m| (m.matrix(), m.classes));
    let problem = Problem {
        teacher_list: is_list,
        soft_labels: batch.soft_labels.map(|y| y.matrix()),
        row_weights: batch.row_weights.is_some(),
        class_weights: batch.class_weights.is_some(),
        metrics: outputs.row_metrics.is_some(),
        shard: shard.map(|shard| shard.shard),
        ..Problem::new(rows, student, teacher, gradient)
    };
    problem.in_buffers(&buffers.lists(), |a, b| buffers.get(a) == buffers.get(b))
}

/// Refuses dispatches in which two bindings overlap and one of them is written, as browsers refuse them.
pub(super) fn overlaps(dispatches: &[Dispatch], buffers: CallerBuffers<'_>) -> Result<()> {
    // Each operand of the workspace has its own buffer.
    check_bindings(dispatches, |a, b| {
        let [first, second] = [a, b].map(|operand| buffers.get(operand));
        first == second && (first.is_some() || a == b)
    })
}
