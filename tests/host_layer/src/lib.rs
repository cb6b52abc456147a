//! The host layer of wgpu-distill in a browser: `Engine::run_async` over cases of the table, on WebGPU and on the CPU path, and
//! the choice of an adapter.
//!
//! `tests/chromium.rs` builds this library for wasm32 and opens it in Chromium.

#![cfg(target_arch = "wasm32")]

#[path = "../../cases/mod.rs"]
mod cases;

mod adapters;
mod cover;

use std::cell::RefCell;

use cases::Case;
use cases::compare::{self, Outcome};
use wasm_bindgen::prelude::wasm_bindgen;
use wgpu_distill::{Engine, Outputs, reference};

#[wasm_bindgen]
extern "C" {
    /// Reports a panic to the page. A promise of a module that has panicked never settles.
    fn panicked(message: &str);
}

thread_local! {
    /// The case that runs, for the report of a panic.
    static CURRENT: RefCell<String> = RefCell::default();
}

/// Results of [`run`].
#[wasm_bindgen(getter_with_clone)]
pub struct Report {
    /// The GPU engine's description of itself.
    pub adapter: String,
    /// Cases that ran on both engines.
    pub cases: usize,
    /// One line for each result that is wrong.
    pub failures: Vec<String>,
}

/// Runs cases on both engines and compares them with the f64 reference: the whole table, or the few cases that cover its choices.
///
/// `is_fallback` is the browser's own word on its adapter.
#[wasm_bindgen]
pub async fn run(whole_table: bool, is_fallback: bool) -> Report {
    std::panic::set_hook(Box::new(|info| {
        CURRENT.with_borrow(|case| panicked(&format!("{case}: {info}")));
    }));
    CURRENT.set("adapters".to_owned());
    let mut report = Report {
        adapter: String::new(),
        cases: 0,
        failures: adapters::check(is_fallback).await,
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
    if !whole_table {
        let cover = cover::of(table);
        table = cover.cases;
        let missing = cover.missing.into_iter();
        let missing = missing.map(|choice| format!("no case of the table has {choice}"));
        report.failures.extend(missing);
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

async fn check(engine: &Engine, case: &Case) -> Result<(), String> {
    let host = case.host();
    let batch = host.batch();
    let want = reference::distill(&case.config, case.progress, &batch);
    let want = want.map_err(|e| e.to_string())?;
    let outputs = Outputs {
        rows: true,
        gradient: Some(case.storage[2]),
    };
    let done = engine.run_async(&case.config, case.progress, &batch, outputs);
    let done = done.await.map_err(|e| e.to_string())?;
    let outcome = Outcome {
        summary: done.summary,
        rows: done.rows.clone(),
        gradient: done.into_grad_student_logits(),
    };
    compare::check(case, &want, &outcome)
}
