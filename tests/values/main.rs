//! Tests that run in one process and share the GPU contexts of [`adapter`].
//!
//! `cargo test --test values TOPIC::` runs one topic.

#[path = "../buffers/mod.rs"]
mod buffers;
#[path = "../cases/mod.rs"]
mod cases;
#[path = "../problems/mod.rs"]
mod problems;
#[path = "../steps/mod.rs"]
mod steps;
#[path = "../variants/mod.rs"]
mod variants;

mod calls;
mod cover;
mod edges;
mod engines;
mod errors;
mod field_reports;
mod house;
mod imports;
mod kernels;
mod laws;
mod licences;
mod names;
mod own_device;
mod plan;
mod record;
mod reference;
mod refusals;
mod shaders;
mod shards;
mod tilings;
mod vectors;

use buffers::{adapter, report};
