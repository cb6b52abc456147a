//! Plans: the kernels to run, the lanes per row, the number of workgroups, and the chunks of whole rows.
//!
//! A plan is a pure function of the problem and the device's limits. It needs no device, so tests can plan for made-up limits.

mod chunks;
mod describe;
mod dispatch;
mod limits;
mod operand;
mod planner;
mod problem;
#[cfg(feature = "gpu")]
mod support;
mod tiling;

pub use chunks::Chunk;
pub use dispatch::Dispatch;
#[cfg(feature = "gpu")]
pub(crate) use dispatch::DispatchBuilder;
pub use limits::Limits;
pub use operand::{Operand, Window};
pub use planner::{Plan, PlanKind};
#[cfg(feature = "gpu")]
pub(crate) use problem::{
    DECISION_BYTES, ROW_REPORT_BYTES, ROW_RESULT_BYTES, ROW_STATS_BYTES, SUMMARY_BYTES,
    SWEEP_SUMS_BYTES,
};
pub use problem::{List, Lists, Matrix, Problem};
pub use tiling::Tiling;
