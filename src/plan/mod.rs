//! Plans: the kernels to run, the lanes per row, the number of workgroups, and the chunks of whole rows.
//!
//! A plan is a pure function of the problem and the device's limits. It needs no device, so tests can plan for made-up limits.
//!
//! A host in another language, or with another GPU layer, needs these functions, in this order:
//! 1. [`Config::set`](crate::Config::set) takes each choice by its name.
//! 2. [`Problem::in_buffers`] finds what the caller's buffers share, and [`Plan::new`] plans.
//! 3. [`Plan::dispatches`] lists the dispatches: a text from [`assemble`](crate::shader::assemble), the workgroups, the bytes of the
//!    parameters, and for each binding the [name](Operand::name) of its operand with the bytes to bind. [`check_bindings`] refuses those
//!    that WebGPU refuses. [`Plan::workspace`] names the temporary buffers.
//! 4. For every further step, [`Plan::renumber`] sets the parameters of the same list anew.

mod chunks;
mod describe;
mod dispatch;
mod limits;
mod lists;
mod operand;
mod overlaps;
mod planner;
mod problem;
mod shards;
#[cfg(feature = "gpu")]
mod support;
mod tiling;

pub use chunks::Chunk;
pub use dispatch::Dispatch;
#[cfg(feature = "gpu")]
pub(crate) use dispatch::DispatchBuilder;
pub use limits::Limits;
#[cfg(feature = "gpu")]
pub(crate) use lists::{
    DECISION_BYTES, ROW_REPORT_BYTES, ROW_RESULT_BYTES, ROW_STATS_BYTES, SUMMARY_BYTES,
    SWEEP_SUMS_BYTES,
};
pub use lists::{LabelType, List, Lists, ShardLists, ShardStep};
pub use operand::{Operand, Window};
pub use overlaps::check_bindings;
pub use planner::{Plan, PlanKind};
pub use problem::{Matrix, Problem};
pub use tiling::Tiling;
