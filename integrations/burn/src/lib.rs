#![cfg_attr(feature = "train", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "train"),
    doc = "Knowledge distillation for Burn; README.md is the page, shown here with the feature `train`."
)]
#![warn(missing_docs)]

// Its tests share files with those under tests/.
#[cfg(test)]
extern crate self as burn_distill;

mod buffers;
mod check;
mod composed;
mod config;
mod cube;
mod error;
mod host;
mod loss;
#[cfg(feature = "train")]
pub mod metrics;
mod ops;
mod path;
mod share;
mod source;
mod steps;
mod task;
#[cfg(test)]
mod views;

pub use config::DistillationLossConfig;
pub use error::{Error, Result};
pub use loss::{DistillationLoss, DistillationOutput};
pub use path::Path;
#[cfg(not(target_family = "wasm"))]
pub use share::init;
pub use share::{adopt, init_async, share};
pub use steps::TrainingSteps;
pub use wgpu_distill::{
    Progress, Reduction, Scope, Selection, Similarity, TeacherClasses, TemperatureScaling,
};
