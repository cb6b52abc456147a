//! The GPU engine: the only module that uses wgpu.

mod adapters;
#[cfg(not(target_arch = "wasm32"))]
mod blocking;
mod buffers;
mod checks;
mod device;
#[cfg(test)]
mod faults;
mod memory;
mod pipelines;
mod readback;
mod record;
mod row_ranges;
mod shard_buffers;
mod shards;
mod slices;
mod steps;
mod summaries;
#[cfg(test)]
mod tests;
mod upload;
mod workspace;

pub use adapters::{AdapterDescription, adapters};
#[cfg(not(target_arch = "wasm32"))]
pub use blocking::adapters_blocking;
pub use buffers::{GpuBatch, GpuLabels, GpuLogits, GpuOutputs, GpuShard, GpuShardStats, GpuSlice};
pub use device::Gpu;
pub use workspace::Workspace;
