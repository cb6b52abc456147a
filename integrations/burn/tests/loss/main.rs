//! The loss through its public interface, on each execution path. There is one binary, since linking Burn takes longer than a test.

mod autodiff;
#[path = "../../../../tests/cases/mod.rs"]
mod cases;
mod device_errors;
#[path = "../devices/mod.rs"]
mod devices;
#[path = "../inputs/mod.rs"]
mod inputs;
mod order_and_memory;
mod refusals;
mod table;
#[cfg(feature = "train")]
mod training;
mod views;
