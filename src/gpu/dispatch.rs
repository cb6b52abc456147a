//! The buffers behind a plan's dispatches.

use super::Workspace;
use super::encode::{GpuBatch, GpuOutputs, GpuSlice};
use crate::plan::{
    DECISION_BYTES, Dispatch, List, Lists, Operand, PARTIAL_BYTES, ROW_RESULT_BYTES,
    ROW_STATS_BYTES, SUMMARY_BYTES, Window,
};
use crate::shader::BindingKind;

/// The caller's buffers and the workspace.
pub(super) struct Buffers<'a> {
    pub batch: &'a GpuBatch<'a>,
    pub outputs: &'a GpuOutputs<'a>,
    pub workspace: &'a Workspace,
}

/// Where the caller's lists lie.
pub(super) fn lists(batch: &GpuBatch<'_>, outputs: &GpuOutputs<'_>) -> Lists {
    let list = |slice: &GpuSlice<'_>| List {
        offset: slice.offset,
        buffer_bytes: slice.buffer.size(),
    };
    Lists {
        labels: list(&batch.labels),
        row_results: outputs.row_results.as_ref().map(list),
        summary: outputs.summary.as_ref().map(list),
    }
}

/// The caller's buffer behind an operand; none for those of the workspace.
fn of_caller<'a>(
    operand: Operand,
    batch: &GpuBatch<'a>,
    outputs: &GpuOutputs<'a>,
) -> Option<&'a wgpu::Buffer> {
    match operand {
        Operand::StudentLogits => Some(batch.student_logits.buffer),
        Operand::TeacherLogits => Some(batch.teacher_logits.buffer),
        Operand::Labels => Some(batch.labels.buffer),
        Operand::Gradient => outputs.gradient.map(|g| g.buffer),
        Operand::RowResults => outputs.row_results.map(|r| r.buffer),
        Operand::Summary => outputs.summary.map(|s| s.buffer),
        _ => None,
    }
}

/// Two bindings that overlap, one of them written: their names.
pub(super) fn overlap(
    dispatch: &Dispatch,
    batch: &GpuBatch<'_>,
    outputs: &GpuOutputs<'_>,
) -> Option<(&'static str, &'static str)> {
    // Each operand of the workspace has a buffer of its own.
    let in_one_buffer = |a: Operand, b: Operand| {
        let [ours, theirs] = [a, b].map(|operand| of_caller(operand, batch, outputs));
        ours == theirs && (ours.is_some() || a == b)
    };
    let windows = &dispatch.windows;
    for (i, (binding, window)) in windows.iter().enumerate() {
        for (other, theirs) in &windows[..i] {
            let written = [binding.kind, other.kind].contains(&BindingKind::ReadWrite);
            if written
                && in_one_buffer(window.operand, theirs.operand)
                && window.offset < theirs.offset + theirs.bytes
                && theirs.offset < window.offset + window.bytes
            {
                return Some((theirs.operand.name(), window.operand.name()));
            }
        }
    }
    None
}

impl<'a> Buffers<'a> {
    pub fn resource(&self, window: &Window) -> wgpu::BindingResource<'a> {
        let of_caller = of_caller(window.operand, self.batch, self.outputs);
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: of_caller.unwrap_or_else(|| self.workspace.buffer(window.operand)),
            offset: window.offset,
            size: wgpu::BufferSize::new(window.bytes),
        })
    }
}

/// What the structs of the device measure, checked where they are declared once more.
const _: () = {
    assert!(size_of::<crate::RowStats>() as u64 == ROW_STATS_BYTES);
    assert!(size_of::<crate::Decision>() as u64 == DECISION_BYTES);
    assert!(size_of::<crate::RowResult>() as u64 == ROW_RESULT_BYTES);
    assert!(size_of::<crate::Summary>() as u64 == SUMMARY_BYTES);
    assert!(PARTIAL_BYTES.is_multiple_of(16));
};
