//! The loss from hidden states and head weights against the f64 reference.
//!
//! It needs no GPU: `cargo test --no-default-features --features linear --test linear`.

#[path = "../cases/mod.rs"]
mod cases;
#[path = "../report/mod.rs"]
mod report;

mod chunks;
mod problem;
mod refusals;
mod rows;
mod table;
mod values;
