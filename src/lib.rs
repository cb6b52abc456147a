#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod batch;
#[cfg(not(target_arch = "wasm32"))]
mod blocking;
mod config;
pub mod cpu;
mod engine;
mod error;
pub mod gpu;
mod outputs;
mod params;
pub mod plan;
mod progress;
pub mod reference;
mod results;
pub mod shader;
mod validate;

pub use batch::{Batch, Logits, Storage, Values};
pub use config::{
    Config, GradWrite, Reduction, Scope, Selection, Similarity, TeacherClasses, TemperatureScaling,
};
pub use engine::Engine;
pub use error::{Error, Result};
pub use outputs::{GradientMut, Outputs, OutputsMut, ValuesMut};
pub use progress::Progress;
pub use results::{Decision, Distillation, Gradient, RowResult, RowStats, Summary, flags};

pub use bytemuck;
pub use half;
pub use wgpu;
