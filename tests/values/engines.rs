//! The table of cases against the f64 reference, on every engine.
//!
//! The GPU engines run on the adapter that `WGPU_DISTILL_ADAPTER` names (default: a software one, llvmpipe). A missing adapter
//! fails, unless `WGPU_DISTILL_SKIP_GPU` is set.

use crate::{buffers, cases};
mod parts;

use crate::buffers::Bench;
use crate::cases::compare::{self, Outcome};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::gpu::Gpu;
use wgpu_distill::{Engine, Outputs, reference, wgpu};

/// Runs every case that an engine takes and reports all that fail.
fn run_all(
    engine: &str,
    table: Vec<cases::Case>,
    mut run: impl FnMut(&cases::Case) -> Option<Result<Outcome, String>>,
) {
    let whole = cases::all().len();
    let of_table = match table.len() {
        n if n == whole => String::new(),
        n => format!("a share of {n} of the table's {whole}, "),
    };
    let mut failures = Vec::new();
    let (mut passed, mut elsewhere) = (0, 0);
    for case in table {
        let host = case.host();
        let want = reference::distill(&case.config, case.progress, &host.batch())
            .expect("cases are valid");
        match run(&case).map(|got| got.and_then(|got| compare::check(&case, &want, &got))) {
            None => elsewhere += 1,
            Some(Ok(())) => passed += 1,
            Some(Err(why)) => failures.push(format!("  {} ({}): {why}", case.name, case.why)),
        }
    }
    println!(
        "cases: {of_table}{passed} passed, {} failed, {elsewhere} not for this door: {engine}",
        failures.len()
    );
    let ran = passed + elsewhere + failures.len();
    assert!(whole > 500 && ran > 50, "{ran} of {whole} cases");
    assert!(
        failures.is_empty(),
        "{} cases failed on {engine}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn on_slices(engine: &Engine, case: &cases::Case) -> Option<Result<Outcome, String>> {
    if !case.on_slices() {
        return None;
    }
    let host = case.host();
    let outputs = Outputs {
        rows: true,
        gradient: Some(case.storage[2]),
    };
    let done = engine.run(&case.config, case.progress, &host.batch(), outputs);
    Some(done.map_err(|e| e.to_string()).map(|done| Outcome {
        summary: done.summary,
        rows: done.rows.clone(),
        gradient: done.into_grad_student_logits(),
    }))
}

/// The CPU path by every instruction set.
fn cpus() -> impl Iterator<Item = Engine> {
    let cpus = Cpu::for_each_instruction_set().into_iter();
    cpus.map(|cpu| Engine::Cpu {
        cpu,
        reason: String::new(),
    })
}

#[test]
fn cpu_with_every_instruction_set() {
    for engine in cpus() {
        run_all(&engine.describe(), cases::all(), |case| {
            on_slices(&engine, case)
        });
    }
}

#[test]
fn gpu_on_slices() {
    let Some(gpu) = buffers::gpu() else { return };
    // Buffers of our own suit a browser.
    let engine = Engine::Gpu(gpu.with_browser_rules());
    let table = cases::share("slices");
    run_all(&format!("slices, {}", engine.describe()), table, |case| {
        on_slices(&engine, case)
    });
}

/// On the device's own plans: all of the table, but for a driver that is asked for a share of everything.
#[test]
fn gpu_on_buffers() {
    let Some(gpu) = buffers::gpu() else { return };
    let bench = Bench::new(gpu);
    let table = match cases::asked_share() {
        Some(_) => cases::share("own plans"),
        None => cases::all(),
    };
    run_all(&bench.describe(), table, |case| Some(bench.run(case)));
}

#[test]
fn gpu_on_buffers_without_subgroups() {
    let Some(gpu) = buffers::gpu() else { return };
    let bench = Bench::new(gpu.without_subgroups());
    let table = cases::share("without subgroups");
    run_all(&bench.describe(), table, |case| Some(bench.run(case)));
}

/// As on hardware with WebGPU's default limits and no feature at all: larger workgroups, workgroup memory, many chunks.
#[test]
fn gpu_with_default_limits() {
    let Some(gpu) = buffers::gpu() else { return };
    let (device, queue) = buffers::default_device(&gpu, wgpu::Features::empty());
    let bench = Bench::with_hardware_plans(Gpu::new(&device, &queue));
    let table = cases::share("default limits");
    run_all(&bench.describe(), table, |case| Some(bench.run(case)));
}

/// The same with subgroup operations: rows of short classes within a subgroup, longer ones on as many as a workgroup has.
/// A software adapter's own plans make a workgroup one subgroup, which hardware hardly ever sees.
#[test]
fn gpu_with_default_limits_and_subgroups() {
    let what = "cases with default limits and subgroups";
    let Some(gpu) = buffers::gpu_with_subgroups(what) else {
        return;
    };
    let (device, queue) = buffers::default_device(&gpu, wgpu::Features::SUBGROUP);
    let gpu = Gpu::new(&device, &queue);
    assert!(gpu.limits().subgroup.is_some(), "{}", gpu.describe());
    let bench = Bench::with_hardware_plans(gpu);
    let table = cases::share("default limits and subgroups");
    run_all(&bench.describe(), table, |case| Some(bench.run(case)));
}
