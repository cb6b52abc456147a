//! Every case of the choices for single rows on a GPU, at full depth: the cover of pairs has only a part of them.

use super::{on_slices, run_all};
use crate::buffers::Bench;
use crate::cases;
use crate::{adapter, cases::is_full};
use wgpu_distill::Engine;

#[test]
fn every_way() {
    if !is_full() {
        return;
    }
    let Some(gpu) = adapter::gpu() else { return };
    for bench in [
        Bench::new(gpu.clone()),
        Bench::with_hardware_plans(gpu.clone()),
    ] {
        run_all("rows", &bench.describe(), cases::of_rows(), |case| {
            Some(bench.run(case))
        });
    }
    let engine = Engine::Gpu(gpu);
    run_all("rows", &engine.describe(), cases::of_rows(), |case| {
        on_slices(&engine, case)
    });
}
