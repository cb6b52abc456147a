//! The GPU engine: the only part that knows wgpu.

mod adapters;
mod context;
mod dispatch;
mod encode;
#[cfg(test)]
mod faults;
mod memory;
mod pieces;
mod pipelines;
mod readback;
mod run;
mod steps;
#[cfg(test)]
mod tests;
mod workspace;

#[cfg(not(target_arch = "wasm32"))]
pub use crate::blocking::adapters_blocking;
pub use adapters::{AdapterDescription, adapters};
pub use context::Gpu;
pub use encode::{GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
pub use workspace::Workspace;
