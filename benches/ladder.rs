//! The `distill` kernel on one adapter from the naive form to the shipped form, one optimization per step, with expected and measured gain.
//!
//! `cargo bench --package wgpu-distill-benches --bench ladder -- --engine NAME`, where NAME is a part of an adapter's name.
//! `--loss LOSS` measures another loss than the method: a divergence in its text form, such as `reverse-kl` or `jsd:0.5`.
//!
//! Every result is compared with the f64 reference first. Steps run in turn, so that a busy machine slows all of them.

mod work;

use wgpu_distill::plan::Tiling;
use wgpu_distill::{Engine, Storage};
use work::{Runner, Work};

const SHAPES: [(usize, usize); 3] = [(4096, 100), (4096, 1000), (1024, 32_000)];
const ROUNDS: usize = 15;

struct Step {
    name: &'static str,
    expected: &'static str,
    engine: Engine,
    /// Lanes, workgroup size, vectors per lane. `None` for the plan's own choice.
    layout: Option<[u32; 3]>,
}

fn steps(engine: &Engine) -> Vec<Step> {
    let Engine::Gpu(gpu) = engine else {
        panic!("the ladder measures a GPU kernel; name a GPU engine");
    };
    let limits = gpu.limits();
    let size = limits.subgroup.map_or(
        64,
        |(min, max)| if limits.software { min } else { max.max(64) },
    );
    let plain = Engine::Gpu(gpu.without_subgroups());
    let step = |name, expected, engine: &Engine, layout| Step {
        name,
        expected,
        engine: engine.clone(),
        layout,
    };
    let mut list = vec![
        step(
            "a lane per row, a vector at a time",
            "naive: on hardware neighbouring lanes read distant memory",
            &plain,
            Some([1, size, 1]),
        ),
        step(
            "a workgroup per row, reduction in workgroup memory",
            "neighbouring lanes read neighbouring memory; barriers cost on software adapters",
            &plain,
            Some([size, size, 1]),
        ),
    ];
    if limits.subgroup.is_some() {
        list.push(step(
            "reduction by subgroup operations",
            "no barrier within a subgroup",
            engine,
            Some([size, size, 1]),
        ));
    }
    list.push(step(
        "four vectors per lane at a time, the last tile in registers",
        "more concurrent loads, one rescaling per tile, short rows read once",
        engine,
        Some([size, size, 4]),
    ));
    list.push(step(
        "shipped: the plan's own tiling",
        "the best of the above",
        engine,
        None,
    ));
    list
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let after = |option: &str| args.windows(2).find(|w| w[0] == option).map(|w| &w[1]);
    // `cargo test --benches` starts every bench without arguments. This bench then does nothing.
    let Some(name) = after("--engine") else {
        return;
    };
    let engine = work::engine(name);
    let loss = after("--loss").map_or(work::METHOD, String::as_str);
    let config = work::config(loss).unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(1);
    });
    println!("{}, {loss}\n", engine.describe());
    println!("| rows x classes | step | expected | median ms | plan |");
    println!("|---|---|---|---|---|");
    for (rows, classes) in SHAPES {
        let mut work = Work::new(rows, classes, Storage::F32, 1);
        work.config = config;
        let mut all: Vec<(Step, Runner, Vec<f64>)> = Vec::new();
        for step in steps(&engine) {
            let Engine::Gpu(gpu) = &step.engine else {
                continue;
            };
            let layout = step
                .layout
                .map(|[lanes, workgroup_size, vectors_per_lane]| Tiling {
                    lanes,
                    workgroup_size,
                    vectors_per_lane,
                    subgroup_min: gpu.limits().subgroup.map(|(min, _)| min),
                    segments: 1,
                });
            let runner = Runner::with_tiling(&step.engine, &work, layout.as_ref());
            let mut runner = runner.expect("the tilings suit every device");
            // One lane that sums a whole long row in f32 is too inexact for the comparison.
            if step
                .layout
                .is_none_or(|[lanes, ..]| lanes > 1 || classes <= 4096)
            {
                runner.check(&work);
            }
            all.push((step, runner, Vec::new()));
        }
        for _ in 0..ROUNDS {
            for (_, runner, times) in &mut all {
                times.push(1e3 * runner.time(&work).as_secs_f64());
            }
        }
        for (step, runner, times) in &mut all {
            times.sort_by(f64::total_cmp);
            println!(
                "| {rows} x {classes} | {} | {} | {:.2} | {} |",
                step.name,
                step.expected,
                times[ROUNDS / 2],
                runner.plan()
            );
        }
    }
}
