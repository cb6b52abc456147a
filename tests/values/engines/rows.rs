//! Every case of the choices for single rows, which the cover of pairs has only in part.

use super::{on_slices, run_all};
use crate::buffers::Bench;
use crate::cases::{self, Case};
use crate::{adapter, cases::is_full};
use wgpu_distill::Engine;

fn table() -> Vec<Case> {
    cases::of_rows()
}

#[test]
fn own_plans() {
    let Some(gpu) = adapter::gpu() else { return };
    let bench = Bench::new(gpu);
    run_all("rows", &bench.describe(), table(), |case| {
        Some(bench.run(case))
    });
}

#[test]
fn other_ways() {
    if !is_full() {
        return;
    }
    let Some(gpu) = adapter::gpu() else { return };
    let bench = Bench::with_hardware_plans(gpu.clone());
    run_all("rows", &bench.describe(), table(), |case| {
        Some(bench.run(case))
    });
    let engine = Engine::Gpu(gpu);
    run_all("rows", &engine.describe(), table(), |case| {
        on_slices(&engine, case)
    });
}
