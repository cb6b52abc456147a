#![cfg_attr(feature = "gpu", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "gpu"),
    doc = "Knowledge distillation without the GPU engine: the CPU path, the f64 reference, the planner and the shader texts. See the README."
)]
#![warn(missing_docs)]

mod batch;
mod chunk_rows;
mod config;
pub mod cpu;
mod engine;
mod error;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(feature = "linear")]
pub mod linear;
mod metrics;
mod moments;
mod outputs;
mod params;
#[cfg(any(feature = "gpu", feature = "linear"))]
mod parts;
pub mod plan;
pub mod presets;
mod progress;
pub mod reference;
mod results;
mod rule;
pub mod schedule;
pub mod shader;
mod shard;
mod validate;

pub use batch::{Batch, Logits, Storage, Values, labels_from_i64};
pub use chunk_rows::chunk_rows;
pub use config::{
    ClassWeighting, Config, Divergence, GradWrite, HardTemperature, MaskedClasses, NonFinite,
    Reduction, Scope, Selection, Similarity, SmoothedClasses, Standardization, TeacherClasses,
    TeacherTail, TemperatureScaling, TssrGradient,
};
pub use cpu::{finish_shards, merge_shards};
pub use engine::Engine;
pub use error::{Error, Result};
pub use metrics::RowMetrics;
pub use outputs::{GradientMut, Outputs, OutputsMut, ValuesMut};
pub use progress::Progress;
pub use results::{
    Decision, Distillation, Gradient, RowReport, RowResult, RowStats, Summary, flags,
};

pub use shard::{KdrSum, Shard, SweepSums};

pub use bytemuck;
pub use half;
#[cfg(feature = "gpu")]
pub use wgpu;
