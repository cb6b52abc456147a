//! Answers timing requests on standard input, one line of JSON each, so that `benches/peers/peers.py` can alternate with the peers.
//!
//! Request: `{"rows": R, "classes": C, "storage": "f32" | "f16" | "bf16", "seed": N, "rounds": K}`.
//! On a GPU `"layout": [lanes, workgroup size, vectors per lane, segments]` replaces the plan's tiling.
//!
//! Answer: `{"system", "times_ms": [K], "plan", "loss", "copy_gb_s"}`, or `{"error"}`. Every result is compared with the f64 reference first.
//!
//! Start with `--engine cpu`, `--engine auto` or `--engine NAME`, where NAME is a part of an adapter's name.

mod work;

use std::io::{BufRead, Write};

use serde::Deserialize;
use wgpu_distill::plan::Tiling;
use wgpu_distill::{Engine, Storage};
use work::{Runner, Work};

#[derive(Deserialize, PartialEq, Clone)]
struct Problem {
    rows: usize,
    classes: usize,
    storage: String,
    seed: u64,
    layout: Option<[u32; 4]>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(flatten)]
    problem: Problem,
    rounds: usize,
}

struct Ready {
    problem: Problem,
    work: Work,
    runner: Runner,
    loss: f32,
    copy: f64,
}

fn prepare(engine: &Engine, problem: &Problem) -> Result<Ready, String> {
    let storage = Storage::ALL
        .into_iter()
        .find(|s| s.name() == problem.storage);
    let storage = storage.ok_or_else(|| format!("no storage type `{}`", problem.storage))?;
    let work = Work::new(problem.rows, problem.classes, storage, problem.seed);
    let layout = match (problem.layout, engine) {
        (Some([lanes, workgroup_size, vectors_per_lane, segments]), Engine::Gpu(gpu)) => {
            Some(Tiling {
                lanes,
                workgroup_size,
                vectors_per_lane,
                subgroup_min: gpu.limits().subgroup.map(|(min, _)| min),
                segments,
            })
        }
        _ => None,
    };
    let mut runner = Runner::with_tiling(engine, &work, layout.as_ref());
    let loss = runner.check(&work);
    let copy = runner.copy_bandwidth();
    Ok(Ready {
        problem: problem.clone(),
        work,
        runner,
        loss,
        copy,
    })
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let named = args
        .iter()
        .position(|a| a == "--engine")
        .and_then(|i| args.get(i + 1));
    // `cargo bench` and `cargo test --benches` start every bench without arguments. This bench then does nothing.
    let Some(name) = named else { return };
    let engine = work::engine(name);
    let system = match &engine {
        Engine::Gpu(gpu) => format!("wgpu-distill {}", gpu.device().adapter_info().name),
        _ => "wgpu-distill cpu".to_owned(),
    };
    let mut ready: Option<Ready> = None;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        if line.trim().is_empty() {
            continue;
        }
        let answer = answer(&engine, &system, &line, &mut ready);
        let answer = answer.unwrap_or_else(|error| serde_json::json!({ "error": error }));
        println!("{answer}");
        if std::io::stdout().flush().is_err() {
            return;
        }
    }
}

fn answer(
    engine: &Engine,
    system: &str,
    line: &str,
    ready: &mut Option<Ready>,
) -> Result<serde_json::Value, String> {
    let request: Request = serde_json::from_str(line).map_err(|e| e.to_string())?;
    if ready.as_ref().is_none_or(|r| r.problem != request.problem) {
        // The old buffers are dropped first, since two problems may not fit in memory together.
        *ready = None;
        *ready = Some(prepare(engine, &request.problem)?);
    }
    let r = ready.as_mut().ok_or("nothing prepared")?;
    let time = |_| 1e3 * r.runner.time(&r.work).as_secs_f64();
    let times: Vec<f64> = (0..request.rounds).map(time).collect();
    Ok(serde_json::json!({
        "system": system,
        "times_ms": times,
        "plan": r.runner.plan(),
        "loss": r.loss,
        "copy_gb_s": r.copy / 1e9,
    }))
}
