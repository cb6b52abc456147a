//! Answers timing requests on standard input, one line of JSON each, so that `benches/peers/peers.py` can alternate with the peers.
//!
//! Request: `{"rows": R, "classes": C, "storage": "f32" | "f16" | "bf16", "seed": N, "rounds": K}`.
//! `"loss"` selects another loss than the method: a divergence in its text form, such as `"reverse-kl"` or `"jsd:0.5"`, without the label.
//! On a GPU `"layout": [lanes, workgroup size, vectors per lane, segments]` replaces the plan's tiling.
//!
//! Answer: `{"system", "times_ms": [K], "plan", "loss", "copy_gb_s"}` with the value of the loss, or `{"error"}`. Every result is compared with
//! the f64 reference first; the error of a wrong one starts with `WRONG`.
//!
//! Start with `--engine cpu`, `--engine auto` or `--engine NAME`, where NAME is a part of an adapter's name.

mod work;

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use wgpu_distill::plan::Tiling;
use wgpu_distill::{Engine, Storage};
use work::{Runner, Work};

/// The start of an error that reports a wrong result. `peers/binaries.py` knows it.
const WRONG: &str = "WRONG";

#[derive(Deserialize, PartialEq, Clone)]
struct Inputs {
    rows: usize,
    classes: usize,
    storage: String,
    seed: u64,
}

#[derive(Deserialize, PartialEq, Clone)]
struct Choice {
    loss: Option<String>,
    layout: Option<[u32; 4]>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(flatten)]
    inputs: Inputs,
    #[serde(flatten)]
    choice: Choice,
    rounds: usize,
}

/// The inputs of the last request on the device, and the loss that is planned for them.
struct Ready {
    inputs: Inputs,
    work: Work,
    runner: Runner,
    copy: f64,
    chosen: Option<Chosen>,
}

struct Chosen {
    choice: Choice,
    /// The value of the loss.
    loss: f32,
}

impl Ready {
    fn new(engine: &Engine, inputs: &Inputs) -> Result<Self, String> {
        let storage = Storage::ALL
            .into_iter()
            .find(|s| s.name() == inputs.storage);
        let storage = storage.ok_or_else(|| format!("no storage type `{}`", inputs.storage))?;
        let work = Work::new(inputs.rows, inputs.classes, storage, inputs.seed);
        let mut runner = Runner::with_tiling(engine, &work, None).map_err(|e| e.to_string())?;
        let copy = runner.copy_bandwidth();
        Ok(Self {
            inputs: inputs.clone(),
            work,
            runner,
            copy,
            chosen: None,
        })
    }

    /// Plans the loss and checks its result. Returns the value of the loss.
    fn choose(&mut self, engine: &Engine, choice: &Choice) -> Result<f32, String> {
        if let Some(chosen) = self.chosen.as_ref().filter(|c| c.choice == *choice) {
            return Ok(chosen.loss);
        }
        self.chosen = None;
        let tiling = match (choice.layout, engine) {
            (Some([lanes, workgroup_size, vectors_per_lane, segments]), Engine::Gpu(gpu)) => {
                Some(Tiling {
                    lanes,
                    workgroup_size,
                    vectors_per_lane,
                    subgroup_min: gpu.limits().subgroup.map(|(min, _)| min),
                    segments,
                })
            }
            (Some(_), _) => return Err("`layout` needs a GPU engine".to_owned()),
            (None, _) => None,
        };
        let loss = choice.loss.as_deref().unwrap_or(work::METHOD);
        self.work.config = work::config(loss).map_err(|e| e.to_string())?;
        let planned = self.runner.plan_for(&self.work, tiling.as_ref());
        planned.map_err(|e| e.to_string())?;
        // A wrong answer of one loss must not end the comparison of the others.
        let checked = catch_unwind(AssertUnwindSafe(|| self.runner.check(&self.work)));
        let loss = checked.map_err(|why| {
            let why = why.downcast_ref::<String>().map_or("", String::as_str);
            format!("{WRONG}: {why}")
        })?;
        self.chosen = Some(Chosen {
            choice: choice.clone(),
            loss,
        });
        Ok(loss)
    }
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
    if ready.as_ref().is_none_or(|r| r.inputs != request.inputs) {
        // The old buffers are dropped first, since two problems may not fit in memory together.
        *ready = None;
        *ready = Some(Ready::new(engine, &request.inputs)?);
    }
    let r = ready.as_mut().ok_or("nothing prepared")?;
    let loss = r.choose(engine, &request.choice)?;
    let time = |_| 1e3 * r.runner.time(&r.work).as_secs_f64();
    let times: Vec<f64> = (0..request.rounds).map(time).collect();
    Ok(serde_json::json!({
        "system": system,
        "times_ms": times,
        "plan": r.runner.plan(),
        "loss": loss,
        "copy_gb_s": r.copy / 1e9,
    }))
}
