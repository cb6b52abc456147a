//! A lost device in a browser.

use wgpu_distill::{Engine, Error, Outputs};

use crate::cases::Case;

/// Returns all failures. A call on a lost device must return an error, and a new engine must work.
pub async fn check(case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let host = case.host();
    let run = async |engine: &Engine| {
        let batch = host.batch();
        let done = engine.run_async(&case.config, case.progress, &batch, Outputs::ALL);
        done.await.map(drop)
    };
    for has_run in [false, true] {
        let about = if has_run { "later" } else { "first" };
        let engine = match Engine::gpu_async("WebGPU").await {
            Ok(engine) => engine,
            Err(error) => return vec![error.to_string()],
        };
        if has_run && let Err(error) = run(&engine).await {
            wrong.push(format!("a new engine: {error}"));
        }
        if let Engine::Gpu(gpu) = &engine {
            gpu.device().destroy();
        }
        match run(&engine).await {
            Err(Error::DeviceLost(_)) => {}
            other => wrong.push(format!("the {about} call on a lost device: {other:?}")),
        }
    }
    wrong
}
