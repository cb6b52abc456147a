//! The host layer of wgpu-distill in a browser: `Engine::run_async` on cases of the table with WebGPU and the CPU path, and the selection
//! of an adapter.
//!
//! The integration test `chromium` builds this library for wasm32 and opens it in Chromium.

#![cfg(target_arch = "wasm32")]

#[path = "../../cases/mod.rs"]
mod cases;

mod adapters;
mod lost;
mod steps;

use std::cell::RefCell;

use cases::Case;
use cases::compare::{self, Outcome};
use wasm_bindgen::prelude::wasm_bindgen;
use wgpu_distill::{Engine, Outputs, Scope, Storage};

#[wasm_bindgen]
extern "C" {
    /// Reports a panic to the page. The promise of a module that panicked never settles.
    fn panicked(message: &str);
}

thread_local! {
    /// The current case, for the report of a panic.
    static CURRENT: RefCell<String> = RefCell::default();
}

/// The number of cases that run in single steps.
const STEPS: usize = 3;

/// Returns true for a case with a shared KDR and results that are finite in f32.
fn has_steps(case: &Case) -> bool {
    case.runs_in_steps()
        && case.kind == cases::inputs::Kind::Normal
        && case.storage[2] == Storage::F32
        && case.config.scope != Scope::Row
}

/// Results of [`run`].
#[wasm_bindgen(getter_with_clone)]
pub struct Report {
    /// The GPU engine's description of itself.
    pub adapter: String,
    /// Cases that ran on both engines.
    pub cases: usize,
    /// Cases that ran in single steps.
    pub steps: usize,
    /// One line for each wrong result.
    pub failures: Vec<String>,
}

/// Installs the report of panics when the module is loaded.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|info| {
        CURRENT.with_borrow(|case| panicked(&format!("{case}: {info}")));
    }));
}

/// Compares cases on both engines with the f64 reference: the whole table, or a cover of its pairs of choices.
#[wasm_bindgen]
pub async fn run(whole_table: bool) -> Report {
    let mut report = Report {
        adapter: String::new(),
        cases: 0,
        steps: 0,
        failures: Vec::new(),
    };
    let gpu = match Engine::gpu_async("WebGPU").await {
        Ok(gpu) => gpu,
        Err(error) => {
            report.failures.push(error.to_string());
            return report;
        }
    };
    report.adapter = gpu.describe();

    let mut table = cases::all();
    table.retain(Case::on_slices);
    let in_steps: Vec<Case> = table
        .iter()
        .filter(|case| has_steps(case))
        .take(STEPS)
        .cloned()
        .collect();
    if !whole_table {
        table = cases::cover_of(table, host_pairs);
    }
    CURRENT.set("a lost device".to_owned());
    report.failures.extend(lost::check(&table[0]).await);
    if let Engine::Gpu(gpu) = &gpu {
        for case in &in_steps {
            let about = format!("{} in single steps", case.name);
            CURRENT.set(about.clone());
            if let Err(why) = steps::check(gpu, case).await {
                report.failures.push(format!("{about}: {why}"));
            }
            report.steps += 1;
        }
    }
    for case in table {
        for engine in [&gpu, &Engine::cpu()] {
            let about = format!("{} on {}", case.name, engine.describe());
            CURRENT.set(about.clone());
            if let Err(why) = check(engine, &case).await {
                report.failures.push(format!("{about}: {why}"));
            }
        }
        report.cases += 1;
    }
    report
}

/// Every choice of a case, and the pairs of choices that affect upload, recording and readback.
fn host_pairs(case: &Case) -> Vec<cases::Pair> {
    const DECISIVE: [&str; 5] = [
        "similarity",
        "scope",
        "student storage",
        "teacher storage",
        "gradient storage",
    ];
    let choices = cases::choices(case).into_iter();
    let alone = choices.map(|choice| (choice.clone(), choice));
    let mut pairs = cases::pairs(case);
    pairs.retain(|pair| [pair.0.0, pair.1.0].iter().all(|d| DECISIVE.contains(d)));
    pairs.extend(alone);
    pairs
}

async fn check(engine: &Engine, case: &Case) -> Result<(), String> {
    let host = case.host();
    let batch = host.batch();
    let outputs = Outputs {
        rows: true,
        gradient: Some(case.storage[2]),
        metrics: case.metrics,
    };
    let done = engine.run_async(&case.config, case.progress, &batch, outputs);
    let done = done.await.map_err(|e| e.to_string())?;
    let outcome = Outcome {
        summary: done.summary,
        rows: done.rows.clone(),
        metrics: done.metrics.clone(),
        gradient: done.into_grad_student_logits(),
    };
    compare::check(case, &case.reference(), &outcome)
}
