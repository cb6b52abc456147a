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

impl<'a> Buffers<'a> {
    /// Where the lists among them lie.
    pub fn lists(&self) -> Lists {
        let list = |slice: &GpuSlice<'_>| List {
            offset: slice.offset,
            buffer_bytes: slice.buffer.size(),
        };
        Lists {
            labels: list(&self.batch.labels),
            row_results: self.outputs.row_results.as_ref().map(list),
            summary: self.outputs.summary.as_ref().map(list),
        }
    }

    fn of(&self, operand: Operand) -> &'a wgpu::Buffer {
        let own = || self.workspace.buffer(Operand::Spare);
        let output = |slice: &Option<GpuSlice<'a>>| slice.map_or_else(own, |s| s.buffer);
        match operand {
            Operand::StudentLogits => self.batch.student_logits.buffer,
            Operand::TeacherLogits => self.batch.teacher_logits.buffer,
            Operand::Labels => self.batch.labels.buffer,
            Operand::Gradient => self.outputs.gradient.map_or_else(own, |g| g.buffer),
            Operand::RowResults => output(&self.outputs.row_results),
            Operand::Summary => output(&self.outputs.summary),
            _ => self.workspace.buffer(operand),
        }
    }

    pub fn resource(&self, window: &Window) -> wgpu::BindingResource<'a> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: self.of(window.operand),
            offset: window.offset,
            size: wgpu::BufferSize::new(window.bytes),
        })
    }

    /// Two bindings that overlap, one of them written: their names.
    pub fn overlap(&self, dispatch: &Dispatch) -> Option<(&'static str, &'static str)> {
        let windows = &dispatch.windows;
        for (i, (binding, window)) in windows.iter().enumerate() {
            for (other, theirs) in &windows[..i] {
                let written = [binding.kind, other.kind].contains(&BindingKind::ReadWrite);
                if written
                    && self.of(window.operand) == self.of(theirs.operand)
                    && window.offset < theirs.offset + theirs.bytes
                    && theirs.offset < window.offset + window.bytes
                {
                    return Some((theirs.operand.name(), window.operand.name()));
                }
            }
        }
        None
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
