//! Temporary buffers of a plan, in proportion to the rows.

use super::memory::buffer;
use crate::plan::{Operand, Plan};

/// Temporary buffers that [`Gpu::encode`](super::Gpu::encode) uses. One may serve many calls, also several in one encoder, since they run one after the other.
#[derive(Debug)]
pub struct Workspace {
    buffers: [(Operand, wgpu::Buffer); 8],
}

impl Workspace {
    /// Buffers large enough for a plan. Bytes: [`Plan::workspace_bytes`]. Where there is no memory for them, the device's error handler hears of it;
    /// [`Gpu::encode`](super::Gpu::encode) without a workspace makes one and returns an error instead.
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

    /// Whether it is large enough for a plan.
    pub fn fits(&self, plan: &Plan) -> bool {
        let enough = |(operand, bytes): (Operand, u64)| self.buffer(operand).size() >= bytes;
        plan.workspace().into_iter().all(enough)
    }

    pub(super) fn buffer(&self, operand: Operand) -> &wgpu::Buffer {
        let found = self.buffers.iter().find(|(other, _)| *other == operand);
        &found.expect("a plan's workspace has every buffer").1
    }

    /// Takes another buffer in the place of one, with contents for a step on its own.
    pub(super) fn replace(&mut self, operand: Operand, buffer: wgpu::Buffer) {
        for entry in self.buffers.iter_mut().filter(|(own, _)| *own == operand) {
            entry.1 = buffer.clone();
        }
    }
}
