//! The GPU engine: the only part that knows wgpu.

mod adapters;
mod context;
mod dispatch;
mod encode;
mod pipelines;
mod readback;
mod run;
mod steps;
mod workspace;

pub use adapters::{AdapterDescription, adapters, adapters_blocking};
pub use context::Gpu;
pub use encode::{GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
pub use workspace::Workspace;
