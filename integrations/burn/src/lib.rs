#![cfg_attr(feature = "train", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "train"),
    doc = "Knowledge distillation for Burn. With the feature `train` this page shows README.md."
)]
#![warn(missing_docs)]

// The unit tests share files with tests/, and those files name the crate.
#[cfg(test)]
extern crate self as burn_distill;

// Each module uses only modules above it.
mod denominator;
mod error;
mod kernel_inputs;
mod kernel_outputs;
mod matrix;
mod shared_device;

mod execution_path;
mod loss_call;

mod buffer_kernels;
mod composed;
mod host_kernels;
mod kernel_tensors;
mod source_kernels;

mod autodiff;
mod backend_ops;

mod batch;
mod compute;
mod row_metrics;

mod arguments;
mod config;
mod linear;
mod loss;
#[cfg(feature = "train")]
pub mod metrics;
mod output;
mod shards;
mod training_steps;
#[cfg(test)]
mod views_test;

pub use batch::DistillationBatch;
pub use config::DistillationLossConfig;
pub use denominator::Denominator;
pub use error::{Error, Result};
pub use execution_path::ExecutionPath;
pub use linear::{LinearDistillationBatch, LinearDistillationLoss, LinearLogits, LinearTeacher};
pub use loss::DistillationLoss;
pub use output::DistillationOutput;
pub use row_metrics::RowMetrics;
#[cfg(not(target_family = "wasm"))]
pub use shared_device::init;
pub use shared_device::{adopt, init_async, share};
pub use training_steps::TrainingSteps;
pub use wgpu_distill;
pub use wgpu_distill::{
    ClassWeighting, Config as CoreConfig, Divergence, Error as CoreError, HardTemperature,
    MaskedClasses, NonFinite, Progress, Reduction as CoreReduction, Scope, Selection, Similarity,
    SmoothedClasses, Standardization, TeacherClasses, TeacherTail, TemperatureScaling,
    TssrGradient, presets, schedule,
};
