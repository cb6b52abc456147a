//! Licences of the crates that candle-distill links, checked against the list of wgpu-distill.

#[path = "../../../tests/values/licences.rs"]
mod licences;
