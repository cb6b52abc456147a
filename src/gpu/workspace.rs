//! Temporary buffers of a plan.

use super::memory::buffer;
use crate::plan::{Operand, Plan};

/// Temporary buffers for [`Gpu::encode`](super::Gpu::encode). A workspace can serve any number of calls, even in
/// the same encoder, because they run one after the other.
#[derive(Debug)]
pub struct Workspace {
    buffers: [(Operand, wgpu::Buffer); 7],
}

impl Workspace {
    /// Creates buffers for a plan, [`Plan::workspace_bytes`] bytes together. If the device has no memory, its error handler receives the
    /// error. [`Gpu::encode`](super::Gpu::encode) without a workspace returns the error instead.
    pub fn new(device: &wgpu::Device, plan: &Plan) -> Self {
        let make = |(operand, size): (Operand, u64)| {
            let usage = wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC;
            (operand, buffer(device, operand.name(), size, usage))
        };
        Self {
            buffers: plan.workspace().map(make),
        }
    }

    /// Returns true if every buffer is large enough for a plan.
    pub fn fits(&self, plan: &Plan) -> bool {
        let enough = |(operand, bytes): (Operand, u64)| self.buffer(operand).size() >= bytes;
        plan.workspace().into_iter().all(enough)
    }

    pub(super) fn buffer(&self, operand: Operand) -> &wgpu::Buffer {
        let found = self.buffers.iter().find(|(other, _)| *other == operand);
        &found.expect("a plan's workspace has every buffer").1
    }
}
