//! The loss through its public interface, on each execution path. There is one binary, since linking Burn takes longer than a test.

mod accumulation;
mod autodiff;
#[path = "../../../../tests/cases/mod.rs"]
mod cases;
mod device_errors;
#[path = "../devices/mod.rs"]
mod devices;
#[path = "../inputs/mod.rs"]
mod inputs;
mod linear;
mod logged;
#[cfg(feature = "train")]
mod metrics;
mod order_and_memory;
mod padding;
mod refusals;
#[path = "../../../../tests/report/mod.rs"]
mod report;
mod rows;
mod saved_configuration;
mod shards;
#[cfg(feature = "train")]
#[path = "../../examples/mnist/silent_renderer.rs"]
mod silent_renderer;
mod table;
mod targets;
#[cfg(feature = "train")]
mod training;
mod views;
#[cfg(feature = "train")]
mod workers;

#[test]
fn a_skipped_gpu_is_reported() {
    let variable = "WGPU_DISTILL_SKIP_GPU";
    if std::env::var_os(variable).is_some() {
        report::left_out("tests of Burn on a GPU", variable);
    }
}
