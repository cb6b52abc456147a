//! Temporary buffers of a plan, in proportion to the rows.

use crate::plan::{Plan, WorkspaceSizes};

/// Temporary buffers that [`Gpu::encode`](super::Gpu::encode) uses. One may serve many calls, also several in one encoder, since they run one after the other.
#[derive(Debug)]
pub struct Workspace {
    pub(super) partials: wgpu::Buffer,
    pub(super) row_stats: wgpu::Buffer,
    pub(super) decisions: wgpu::Buffer,
    pub(super) pieces: wgpu::Buffer,
    pub(super) swept: wgpu::Buffer,
    pub(super) valid_rows: wgpu::Buffer,
    pub(super) observed: wgpu::Buffer,
    pub(super) summary: wgpu::Buffer,
    sizes: WorkspaceSizes,
}

impl Workspace {
    /// Buffers large enough for a plan. Bytes: [`Plan::workspace_bytes`].
    pub fn new(device: &wgpu::Device, plan: &Plan) -> Self {
        let sizes = plan.workspace();
        let make = |label, size| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage: wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_DST
                    | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            })
        };
        Self {
            partials: make("partials", sizes.partials),
            row_stats: make("row_stats", sizes.row_stats),
            decisions: make("decisions", sizes.decisions),
            pieces: make("piece_stats", sizes.pieces),
            swept: make("swept", sizes.swept),
            valid_rows: make("valid_rows", sizes.small / 3),
            observed: make("observed", sizes.small / 3),
            summary: make("summary", sizes.small / 3),
            sizes,
        }
    }

    /// Whether it is large enough for a plan.
    pub fn fits(&self, plan: &Plan) -> bool {
        let need = plan.workspace();
        self.sizes.partials >= need.partials
            && self.sizes.row_stats >= need.row_stats
            && self.sizes.decisions >= need.decisions
            && self.sizes.pieces >= need.pieces
            && self.sizes.swept >= need.swept
    }
}
