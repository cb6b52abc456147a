//! Checks of caller buffers.

use super::buffers::{CallerBuffers, GpuLogits, GpuSlice};
use crate::plan::{Dispatch, Operand, Problem, ROW_REPORT_BYTES, ROW_RESULT_BYTES, SUMMARY_BYTES};
use crate::shader::BindingKind;
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

    fn overlaps(&self, other: &Self) -> bool {
        self.buffer == other.buffer && self.start < other.end && other.start < self.end
    }
}

/// Checks the buffers and returns the problem that a plan is made for.
pub(super) fn problem(config: &Config, buffers: CallerBuffers<'_>) -> Result<Problem> {
    let CallerBuffers { batch, outputs } = buffers;
    let (student, teacher) = (&batch.student_logits, &batch.teacher_logits);
    let rows = batch.rows;
    validate::shape("student_logits", rows, student.classes, student.row_stride)?;
    validate::shape("teacher_logits", rows, teacher.classes, teacher.row_stride)?;
    let is_list = batch.teacher_ids.is_some();
    validate::teacher(config, student.classes, teacher.classes, is_list)?;
    let mut inputs = vec![
        Region::logits("student_logits", student, rows),
        Region::logits("teacher_logits", teacher, rows),
        Region::slice("labels", &batch.labels, 4 * rows as u64),
    ];
    inputs[0].check(student.storage.bytes() as u64)?;
    inputs[1].check(teacher.storage.bytes() as u64)?;
    inputs[2].check(4)?;
    if let Some(ids) = &batch.teacher_ids {
        let region = Region::slice("teacher_ids", ids, 4 * (rows * teacher.classes) as u64);
        region.check(4)?;
        inputs.push(region);
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
        let region = Region::logits("soft_labels", soft_labels, rows);
        region.check(storage.bytes() as u64)?;
        inputs.push(region);
    }
    if let Some(weights) = &batch.row_weights {
        let region = Region::slice("row_weights", weights, 4 * rows as u64);
        region.check(4)?;
        inputs.push(region);
    }
    if let Some(weights) = &batch.class_weights {
        validate::class_weighting(config)?;
        let region = Region::slice("class_weights", weights, 4 * student.classes as u64);
        region.check(4)?;
        inputs.push(region);
    }
    let mut written = Vec::new();
    let mut in_place = false;
    if let Some(gradient) = &outputs.gradient {
        validate::shape("gradient", rows, gradient.classes, gradient.row_stride)?;
        if gradient.classes != student.classes {
            return Err(Error::GradientShape {
                classes: student.classes,
                got: gradient.classes,
            });
        }
        let region = Region::logits("gradient", gradient, rows);
        region.check(gradient.storage.bytes() as u64)?;
        in_place = gradient.buffer == student.buffer && gradient.matrix() == student.matrix();
        written.push(region);
    }
    if let Some(results) = &outputs.row_results {
        let region = Region::slice("row_results", results, ROW_RESULT_BYTES * rows as u64);
        region.check(ROW_RESULT_BYTES)?;
        written.push(region);
    }
    if let Some(metrics) = &outputs.row_metrics {
        let region = Region::slice("row_metrics", metrics, ROW_REPORT_BYTES * rows as u64);
        region.check(ROW_REPORT_BYTES)?;
        written.push(region);
        if outputs.row_results.is_some() {
            return Err(validate::results_twice());
        }
    }
    if let Some(summary) = &outputs.summary {
        let region = Region::slice("summary", summary, SUMMARY_BYTES);
        region.check(256)?;
        written.push(region);
    }
    let mut shared_buffers = false;
    if in_place {
        inputs.remove(0);
    }
    for (i, output) in written.iter().enumerate() {
        let others = inputs.iter().chain(&written[i + 1..]);
        for other in others {
            if output.overlaps(other) {
                return Err(Error::BufferOverlap {
                    first: output.name,
                    second: other.name,
                    why: "only the gradient may overlap the student's logits, with the same offset, stride and storage",
                });
            }
        }
        shared_buffers |= inputs.iter().any(|input| input.buffer == output.buffer);
    }
    let gradient = outputs.gradient.map(|g| g.matrix());
    let [student, teacher] = [student, teacher].map(|m| (m.matrix(), m.classes));
    Ok(Problem {
        shared_buffers,
        in_place,
        teacher_list: is_list,
        soft_labels: batch.soft_labels.map(|y| y.matrix()),
        row_weights: batch.row_weights.is_some(),
        class_weights: batch.class_weights.is_some(),
        metrics: outputs.row_metrics.is_some(),
        ..Problem::new(rows, student, teacher, gradient)
    })
}

/// Refuses dispatches in which two bindings overlap and one of them is written, as browsers refuse them.
pub(super) fn overlaps(dispatches: &[Dispatch], buffers: CallerBuffers<'_>) -> Result<()> {
    match dispatches.iter().find_map(|d| overlap(d, buffers)) {
        None => Ok(()),
        Some((first, second)) => Err(Error::BufferOverlap {
            first,
            second,
            why: "browsers refuse a second binding of bytes that a kernel writes, and bindings start at multiples of 256 bytes; use a buffer for each",
        }),
    }
}

/// The names of two bindings that overlap, one of them written.
fn overlap(
    dispatch: &Dispatch,
    buffers: CallerBuffers<'_>,
) -> Option<(&'static str, &'static str)> {
    // Each operand of the workspace has its own buffer.
    let in_one_buffer = |a: Operand, b: Operand| {
        let [first, second] = [a, b].map(|operand| buffers.get(operand));
        first == second && (first.is_some() || a == b)
    };
    let windows = &dispatch.windows;
    for (i, (binding, window)) in windows.iter().enumerate() {
        for (other, earlier) in &windows[..i] {
            let written = [binding.kind, other.kind].contains(&BindingKind::ReadWrite);
            if written
                && in_one_buffer(window.operand, earlier.operand)
                && window.offset < earlier.offset + earlier.bytes
                && earlier.offset < window.offset + window.bytes
            {
                return Some((earlier.operand.name(), window.operand.name()));
            }
        }
    }
    None
}
