//! Names, kinds and selection of adapters in a browser.

use wasm_bindgen::prelude::wasm_bindgen;
use wgpu_distill::gpu::{self, AdapterDescription};
use wgpu_distill::{Engine, Error};

/// Returns all failures. `is_fallback` and `description` are the browser's own values for its adapter.
#[wasm_bindgen]
pub async fn check_adapters(is_fallback: bool, description: &str) -> Vec<String> {
    let adapters = gpu::adapters().await;
    let [adapter] = adapters.as_slice() else {
        return vec![format!("one adapter is expected, not {adapters:?}")];
    };
    let mut wrong = Vec::new();
    if adapter.hardware == is_fallback {
        wrong.push(format!(
            "isFallbackAdapter is {is_fallback}, but this is listed: {adapter}"
        ));
    }
    if !adapter.name.ends_with(description) {
        wrong.push(format!("{description:?} is not in the name of {adapter}"));
    }
    wrong.extend(names(adapter).await);
    wrong.extend(auto(adapter, is_fallback).await);
    wrong
}

async fn names(adapter: &AdapterDescription) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = &adapter.name;
    if name.trim().is_empty() || name.trim() != name {
        wrong.push(format!("an adapter is called {name:?}"));
    }
    for wanted in [name, &name.to_uppercase(), "webgpu", "browser"] {
        match Engine::gpu_async(wanted).await {
            Ok(engine) if engine.describe().starts_with(name) => {}
            Ok(engine) => wrong.push(format!("{wanted:?} gives {:?}", engine.describe())),
            Err(error) => wrong.push(format!("{wanted:?} is refused: {error}")),
        }
    }
    for wanted in ["no adapter has this name", "", " "] {
        match Engine::gpu_async(wanted).await {
            Err(Error::NoAdapter { available, .. }) if available == *name => {}
            Err(error) => wrong.push(format!("{wanted:?} is refused with: {error}")),
            Ok(engine) => wrong.push(format!("{wanted:?} gives {:?}", engine.describe())),
        }
    }
    wrong
}

/// Checks that `auto_async` selects hardware, and the CPU path rather than a fallback adapter.
async fn auto(adapter: &AdapterDescription, is_fallback: bool) -> Option<String> {
    let engine = Engine::auto_async().await;
    let is_right = match &engine {
        Engine::Cpu { reason, .. } => {
            is_fallback && reason.contains(&adapter.name) && reason.contains("software")
        }
        _ => !is_fallback && engine.describe().starts_with(&adapter.name),
    };
    let about = engine.describe();
    (!is_right).then(|| format!("isFallbackAdapter is {is_fallback}, and auto takes {about:?}"))
}
