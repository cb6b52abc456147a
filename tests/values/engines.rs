//! The table of cases against the f64 reference, on every engine.
//!
//! The GPU engines run on the adapter that `WGPU_DISTILL_ADAPTER` names (default: a software one, llvmpipe). A missing adapter
//! fails, unless `WGPU_DISTILL_SKIP_GPU` is set.

mod parts;
mod rows;

use crate::buffers::Bench;
use crate::buffers::poison::{gather, initial_gradient};
use crate::cases::compare::{self, Outcome};
use crate::{adapter, cases, report};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{Engine, GradientMut, Outputs, OutputsMut, RowMetrics, RowResult, wgpu};

/// Runs every case that an engine supports and reports all failures.
fn run_all(
    way: &str,
    engine: &str,
    table: Vec<cases::Case>,
    mut run: impl FnMut(&cases::Case) -> Option<Result<Outcome, String>>,
) {
    let mut failures = Vec::new();
    let (mut passed, mut elsewhere) = (0, 0);
    for case in &table {
        match run(case).map(|got| got.and_then(|got| compare::check(case, &case.reference(), &got)))
        {
            None => elsewhere += 1,
            Some(Ok(())) => passed += 1,
            Some(Err(why)) => failures.push(format!("  {} ({}): {why}", case.name, case.why)),
        }
    }
    report::ran(&format!(
        "cases [{way}]: {}, {passed} passed, {} failed, {elsewhere} not applicable: {engine}",
        cases::extent(&table),
        failures.len()
    ));
    assert!(
        failures.is_empty(),
        "{} cases failed on {engine}:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(passed > 10, "only {passed} cases passed");
}

/// Runs a case on slices. Accumulation and gradients with gaps use `run_into`, the others `run`.
fn on_slices(engine: &Engine, case: &cases::Case) -> Option<Result<Outcome, String>> {
    if !case.runs_into_slices() {
        return None;
    }
    Some(if case.on_slices() && case.gaps[2] == 0 {
        with_new_gradient(engine, case)
    } else {
        with_callers_gradient(engine, case)
    })
}

fn with_new_gradient(engine: &Engine, case: &cases::Case) -> Result<Outcome, String> {
    let host = case.host();
    let outputs = Outputs {
        rows: true,
        gradient: Some(case.storage[2]),
        metrics: case.metrics,
    };
    let done = engine.run(&case.config, case.progress, &host.batch(), outputs);
    done.map_err(|e| e.to_string()).map(|done| Outcome {
        summary: done.summary,
        rows: done.rows.clone(),
        metrics: done.metrics.clone(),
        gradient: done.into_grad_student_logits(),
    })
}

/// Fails if an element between the rows of the gradient changes.
fn with_callers_gradient(engine: &Engine, case: &cases::Case) -> Result<Outcome, String> {
    let host = case.host();
    let [_, _, stride] = case.strides();
    let before = initial_gradient(case, stride, 0);
    let mut memory = before.clone();
    let mut rows = vec![RowResult::default(); case.rows];
    let mut metrics = vec![RowMetrics::default(); case.rows];
    let gradient = GradientMut::new(memory.values_mut(), case.classes).with_row_stride(stride);
    let outputs = OutputsMut {
        rows: Some(&mut rows),
        gradient: Some(gradient),
        metrics: case.metrics.then_some(&mut metrics[..]),
    };
    let summary = engine.run_into(&case.config, case.progress, &host.batch(), outputs);
    let summary = summary.map_err(|e| e.to_string())?;
    let [memory, before] = [&memory, &before].map(|stored| stored.values().as_bytes());
    let gradient = gather(case, memory, before, stride, 0)?;
    Ok(Outcome {
        summary,
        rows,
        gradient,
        metrics: if case.metrics { metrics } else { Vec::new() },
    })
}

/// The CPU path with every instruction set.
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
        run_all("CPU path", &engine.describe(), cases::all(), |case| {
            on_slices(&engine, case)
        });
    }
}

#[test]
fn gpu_on_slices() {
    // Internal buffers follow the rules of browsers.
    let Some(gpu) = adapter::by_browser_rules() else {
        return;
    };
    let engine = Engine::Gpu(gpu);
    let table = cases::share(1, 8);
    run_all("slices", &engine.describe(), table, |case| {
        on_slices(&engine, case)
    });
}

fn on_buffers(way: &str, bench: &Bench, table: Vec<cases::Case>) {
    run_all(way, &bench.describe(), table, |case| Some(bench.run(case)));
}

/// Runs the cases with the device's own plans.
#[test]
fn gpu_on_buffers() {
    if let Some(gpu) = adapter::gpu() {
        on_buffers("own plans", &Bench::new(gpu), cases::share(0, 4));
    }
}

/// The rest of the cover. `./check` leaves it to the second driver.
#[test]
fn further_cases_on_buffers() {
    if cases::is_full() {
        return;
    }
    if let Some(gpu) = adapter::gpu() {
        let table = [1, 2, 3].map(|from| cases::share(from, 4)).concat();
        on_buffers("own plans, further", &Bench::new(gpu), table);
    }
}

#[test]
fn gpu_on_buffers_without_subgroups() {
    if let Some(gpu) = adapter::without_subgroups() {
        on_buffers("without subgroups", &Bench::new(gpu), cases::share(2, 8));
    }
}

/// Runs the cases as on hardware with WebGPU's default limits and no features: larger workgroups, workgroup memory, many chunks.
#[test]
fn gpu_with_default_limits() {
    if let Some(gpu) = adapter::with_default_limits(wgpu::Features::empty()) {
        on_buffers(
            "default limits",
            &Bench::with_hardware_plans(gpu),
            cases::for_drivers(),
        );
    }
}

/// Runs the cases as on hardware with default limits and subgroup operations.
///
/// Lanes of short rows share a subgroup; lanes of longer rows span all subgroups of a workgroup.
/// In a software adapter's own plans a workgroup is one subgroup, which is rare on hardware.
#[test]
fn gpu_with_default_limits_and_subgroups() {
    let what = "cases with default limits and subgroups";
    if adapter::with_subgroups(what).is_none() {
        return;
    }
    let gpu = adapter::with_default_limits(wgpu::Features::SUBGROUP).expect("an adapter");
    assert!(gpu.limits().subgroup.is_some(), "{}", gpu.describe());
    on_buffers(
        "default limits and subgroups",
        &Bench::with_hardware_plans(gpu),
        cases::share(3, 4),
    );
}
