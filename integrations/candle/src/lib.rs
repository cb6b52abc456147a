#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

// Each module uses only modules above it.
mod batch;
mod views;

mod arguments;
mod gradient;

mod forward;
mod loss;

pub use batch::DistillationBatch;
pub use loss::{DistillationLoss, DistillationOutput};
pub use wgpu_distill;
pub use wgpu_distill::{
    ClassWeighting, Config, Divergence, HardTemperature, MaskedClasses, NonFinite, Progress,
    Reduction, RowMetrics, RowResult, Scope, Selection, Similarity, SmoothedClasses,
    Standardization, Summary, TeacherClasses, TeacherTail, TemperatureScaling, TssrGradient,
    presets, schedule,
};
