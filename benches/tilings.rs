//! Time of every tiling that may suit a shape, on one GPU. The constants of `src/plan/tiling.rs` follow from its tables.
//!
//! `cargo bench --package wgpu-distill-benches --bench tilings -- --engine NAME`, where NAME is a part of an adapter's name.
//!
//! `--shape ROWSxCLASSES` and `--storage f32|f16|bf16` may be repeated. `--tiling LANES,SIZE,VECTORS,SEGMENTS`, repeated, replaces the list of
//! tilings. `--loss LOSS` measures another loss than the method: a divergence in its text form. `--seconds N` starts no shape after N seconds. `--best N` prints the N fastest tilings of a shape (default 8). `--plain` uses no
//! subgroup operations.
//!
//! Every answer is compared with the f64 reference first. The tilings of a shape take turns, so that a busy machine slows all of them.

mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use rayon::prelude::*;
use wgpu_distill::plan::{Limits, Tiling};
use wgpu_distill::{Config, Engine, Storage};
use work::gpu::{GpuRunner, Planned};
use work::{Runner, Work};

/// The most valuable shapes first, since time may end the run.
const SHAPES: [(usize, usize); 8] = [
    (4096, 1000),
    (32_768, 1024),
    (8192, 32_000),
    (4096, 100),
    (4096, 128_256),
    (64, 128_256),
    (32_768, 4096),
    (8, 128_256),
];
const ROUNDS: usize = 3;
const SLICE_MS: f64 = 6.0;

struct Options {
    engine: String,
    shapes: Vec<(usize, usize)>,
    storages: Vec<Storage>,
    tilings: Vec<[u32; 4]>,
    seconds: f64,
    best: usize,
    plain: bool,
    config: Config,
}

fn options() -> Option<Options> {
    let args: Vec<String> = std::env::args().collect();
    let all = |name: &str| -> Vec<String> {
        let pairs = args.windows(2).filter(|pair| pair[0] == name);
        pairs.map(|pair| pair[1].clone()).collect()
    };
    // `cargo test --benches` starts every bench without arguments. This bench then does nothing.
    let engine = all("--engine").pop()?;
    let number = |name, default: f64| {
        let text = all(name).pop();
        text.map_or(default, |t| t.parse().expect("a number"))
    };
    let mut shapes: Vec<(usize, usize)> = Vec::new();
    for text in all("--shape") {
        let (rows, classes) = text.split_once('x').expect("ROWSxCLASSES");
        shapes.push((
            rows.parse().expect("rows"),
            classes.parse().expect("classes"),
        ));
    }
    if shapes.is_empty() {
        shapes = SHAPES.to_vec();
    }
    let mut storages = vec![Storage::F32, Storage::Bf16];
    let named = all("--storage");
    if !named.is_empty() {
        storages = Storage::ALL.to_vec();
        storages.retain(|s| named.iter().any(|n| n == s.name()));
    }
    let mut tilings = Vec::new();
    for text in all("--tiling") {
        let numbers = text.split(',').map(|n| n.parse().expect("a number"));
        let numbers: Vec<u32> = numbers.collect();
        tilings.push(numbers.try_into().expect("four numbers"));
    }
    Some(Options {
        engine,
        shapes,
        storages,
        tilings,
        seconds: number("--seconds", f64::INFINITY),
        best: number("--best", 8.0) as usize,
        plain: args.iter().any(|a| a == "--plain"),
        config: all("--loss").pop().map_or(Config::default(), |loss| {
            work::config(&loss).unwrap_or_else(|e| panic!("--loss: {e}"))
        }),
    })
}

/// Tilings that may suit the shape, besides the plan's own.
fn candidates(rows: usize, classes: usize, limits: &Limits) -> Vec<Tiling> {
    let vectors = classes.div_ceil(4) as u32;
    let (min, max) = limits.subgroup.unwrap_or((16, 32));
    let subgroup_min = limits.subgroup.map(|_| min);
    let powers = |from: u32, to: u32| (from.ilog2()..=to.ilog2()).map(|n| 1 << n);
    let mut owners: Vec<(u32, u32)> = Vec::new();
    for lanes in powers(1, min) {
        // A lane with more vectors reads its row too slowly to be of interest.
        if vectors.div_ceil(lanes) <= 32 {
            owners.extend([64, 128, 256].map(|size| (lanes, size)));
        }
    }
    if vectors > min {
        owners.extend(powers(64, 1024).map(|size| (size, size)));
    }
    let cap = limits.workgroup_invocations;
    owners.retain(|&(lanes, size)| size >= max && size <= cap && lanes <= size);
    let mut list = Vec::new();
    for (lanes, workgroup_size) in owners {
        // The fewest vectors that hold the row are the most that a lane needs.
        let enough = vectors.div_ceil(lanes);
        let mut counts = vec![1, 2, 3, 4, 6, 8, 12, 16];
        counts.push(enough);
        counts.retain(|&n| n <= enough.min(16));
        counts.sort_unstable();
        counts.dedup();
        // Lanes without work.
        if lanes > 2 * vectors.next_power_of_two() {
            continue;
        }
        for vectors_per_lane in counts {
            let whole = lanes == workgroup_size;
            let few = rows <= 256 && vectors >= 4096;
            let long = vectors >= 16_384 && vectors_per_lane == 4;
            let segments: &[u32] = match whole {
                true if few => &[1, 2, 4, 8, 16, 32],
                true if long => &[1, 2, 4],
                _ => &[1],
            };
            for &segments in segments {
                list.push(Tiling {
                    lanes,
                    workgroup_size,
                    vectors_per_lane,
                    subgroup_min,
                    segments,
                });
            }
        }
    }
    list
}

/// A plan, and the median time of its best round in milliseconds. Other work on the machine may slow a whole round.
struct Candidate {
    planned: Planned,
    calls: usize,
    median: f64,
}

impl Candidate {
    /// `None`, with a message, if the answer is wrong or the device refuses.
    fn tried(planned: Planned, runner: &GpuRunner, work: &Work) -> Option<Self> {
        let once = || {
            runner.check(&planned, work);
            1e3 * runner.time(&planned).as_secs_f64()
        };
        let Ok(ms) = catch_unwind(AssertUnwindSafe(once)) else {
            println!("FAILED, left out: {}", planned.plan);
            return None;
        };
        Some(Self {
            planned,
            calls: (SLICE_MS / ms.max(1e-3)).clamp(2.0, 10.0) as usize,
            median: f64::INFINITY,
        })
    }
}

/// Prints the table of one shape.
fn sweep(engine: &Engine, (rows, classes): (usize, usize), storage: Storage, options: &Options) {
    let Engine::Gpu(gpu) = engine else {
        panic!("tilings are for GPUs; name a GPU engine");
    };
    let start = Instant::now();
    let mut work = Work::new(rows, classes, storage, 1);
    work.config = options.config;
    let mut runner = Runner::new(engine, &work);
    let copy = runner.copy_bandwidth();
    let Runner::Gpu(runner) = runner else {
        unreachable!("the engine is a GPU");
    };
    let limits = gpu.limits();
    let own = Tiling::for_shape(rows, classes, &limits);
    let subgroup_min = limits.subgroup.map(|(min, _)| min);
    let chosen = options.tilings.iter().map(
        |&[lanes, workgroup_size, vectors_per_lane, segments]| Tiling {
            lanes,
            workgroup_size,
            vectors_per_lane,
            subgroup_min,
            segments,
        },
    );
    let mut list: Vec<Tiling> = chosen.collect();
    if list.is_empty() {
        list = candidates(rows, classes, &limits);
    }
    list.retain(|tiling| *tiling != own);
    list.insert(0, own);
    let generated = start.elapsed();
    // Compiling takes most of the time. All cores take part.
    let planned = list.par_iter().filter_map(|t| runner.planned(t).ok());
    let planned: Vec<Planned> = planned.collect();
    let compiled = start.elapsed() - generated;
    let tried = planned
        .into_iter()
        .filter_map(|p| Candidate::tried(p, &runner, &work));
    let mut tried: Vec<Candidate> = tried.collect();
    for _ in 0..ROUNDS {
        for candidate in &mut tried {
            runner.time(&candidate.planned);
            let time = |_| 1e3 * runner.time(&candidate.planned).as_secs_f64();
            let mut times: Vec<f64> = (0..candidate.calls).map(time).collect();
            times.sort_by(f64::total_cmp);
            candidate.median = candidate.median.min(times[times.len() / 2]);
        }
    }
    let of_plan = tried.first().map_or(f64::NAN, |own| own.median);
    let own = tried
        .first()
        .map_or(String::new(), |own| own.planned.plan.to_string());
    tried.sort_by(|a, b| a.median.total_cmp(&b.median));
    println!(
        "\n{rows} x {classes} {}: {} tilings, {} right; copy {:.0} GB/s; {:.1} s to generate, {:.1} s to compile, {:.1} s in all\n",
        storage.name(),
        list.len(),
        tried.len(),
        copy / 1e9,
        generated.as_secs_f64(),
        compiled.as_secs_f64(),
        start.elapsed().as_secs_f64(),
    );
    println!("| place | ms | GB/s | of copy | time relative to the plan's | tiling |");
    println!("|--:|--:|--:|--:|--:|---|");
    for (place, candidate) in tried.iter().enumerate() {
        let text = candidate.planned.plan.to_string();
        let is_own = text == own;
        if place >= options.best && !is_own {
            continue;
        }
        let rate = work.model_bytes() as f64 / (1e-3 * candidate.median);
        println!(
            "| {}{} | {:.4} | {:.0} | {:.0} % | {:.2} | {text} |",
            place + 1,
            if is_own { ", the plan's" } else { "" },
            candidate.median,
            rate / 1e9,
            100.0 * rate / copy,
            candidate.median / of_plan,
        );
    }
}

fn main() {
    let Some(options) = options() else { return };
    let start = Instant::now();
    let mut engine = work::engine(&options.engine);
    if let (true, Engine::Gpu(gpu)) = (options.plain, &engine) {
        engine = Engine::Gpu(gpu.without_subgroups());
    }
    println!("{}", engine.describe());
    for &shape in &options.shapes {
        for &storage in &options.storages {
            if start.elapsed().as_secs_f64() > options.seconds {
                println!("out of time: {} x {} {}", shape.0, shape.1, storage.name());
                continue;
            }
            sweep(&engine, shape, storage, &options);
        }
    }
}
