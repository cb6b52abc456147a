//! Time of the whole method, from logits to gradient, at usual shapes.
//!
//! `cargo bench --package wgpu-distill-benches --bench distill` measures the CPU path and the GPU, if there is one.
//! `WGPU_DISTILL_ADAPTER=NAME` selects another adapter. `WGPU_DISTILL_SHAPES=large` adds shapes for hardware.
//!
//! Every result is compared with the f64 reference first. GPU times are time stamps of the device.
//!
//! The bench ends with a table: median, GB/s, share of a plain copy's bandwidth on the same device in the same run, and plan.
//! GB/s counts bytes by a model: both rows are read once and the gradient is written once.

mod work;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use wgpu_distill::{Engine, Storage};
use work::{Runner, Work};

const SMALL: &[(usize, usize)] = &[
    (128, 10),
    (4096, 100),
    (4096, 1000),
    (1024, 32_000),
    (256, 128_256),
];
const LARGE: &[(usize, usize)] = &[
    (32_768, 1024),
    (32_768, 4096),
    (8192, 32_000),
    (4096, 32_768),
    (4096, 65_536),
    (8192, 128_256),
    (16_384, 131_072),
];

/// Sets of inputs and outputs alternate. Together they exceed the last-level cache of most devices, so that no set stays in the cache.
const ROTATED_BYTES: usize = 256 << 20;
/// The most sets for the smallest shapes. These stay in the cache, and the bench measures their overhead.
const MOST_SETS: usize = 8;

fn engines() -> Vec<(String, Engine)> {
    let mut list = vec![("cpu".to_owned(), Engine::cpu())];
    let gpu = match std::env::var("WGPU_DISTILL_ADAPTER") {
        Ok(name) => work::engine(&name),
        Err(_) => Engine::auto(),
    };
    if let Engine::Gpu(gpu) = &gpu {
        list.push((gpu.device().adapter_info().name, Engine::Gpu(gpu.clone())));
    }
    list
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let large = std::env::var("WGPU_DISTILL_SHAPES").is_ok_and(|s| s == "large");
    let shapes = SMALL.iter().chain(if large { LARGE } else { &[] });
    let mut table = Vec::new();
    for (name, engine) in engines() {
        println!("{name}: {}", engine.describe());
        for &(rows, classes) in shapes.clone() {
            for storage in Storage::ALL {
                measure(
                    &mut criterion,
                    &name,
                    &engine,
                    (rows, classes),
                    storage,
                    &mut table,
                );
            }
        }
    }
    if !table.is_empty() {
        println!(
            "\n| engine | rows x classes | storage | median ms | clock ms | GB/s | of copy | plan |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        table.iter().for_each(|line| println!("{line}"));
    }
    criterion.final_summary();
}

fn measure(
    criterion: &mut Criterion,
    name: &str,
    engine: &Engine,
    (rows, classes): (usize, usize),
    storage: Storage,
    table: &mut Vec<String>,
) {
    let mut group = criterion.benchmark_group(format!("distill/{name}"));
    let id = BenchmarkId::new(format!("{rows}x{classes}"), storage.name());
    let mut times = Vec::new();
    let mut sets: Vec<(Work, Runner)> = Vec::new();
    group.throughput(Throughput::Bytes(
        (3 * storage.bytes() * rows * classes) as u64,
    ));
    group.bench_function(id, |bencher| {
        // Created on first use, since a filter on the command line may exclude this shape.
        if sets.is_empty() {
            let bytes = 3 * storage.bytes() * rows * classes;
            for seed in 0..ROTATED_BYTES.div_ceil(bytes).clamp(1, MOST_SETS) {
                let work = Work::new(rows, classes, storage, seed as u64);
                let mut runner = Runner::new(engine, &work);
                runner.check(&work);
                sets.push((work, runner));
            }
        }
        bencher.iter_custom(|n| {
            let mut total = Duration::ZERO;
            for i in 0..n as usize {
                let at = i % sets.len();
                let (work, runner) = &mut sets[at];
                let time = runner.time(work);
                times.push(time);
                total += time;
            }
            total
        });
    });
    group.finish();
    let Some((work, mut runner)) = sets.pop() else {
        return;
    };
    drop(sets);
    let copy = runner.copy_bandwidth();
    let walls: Vec<Duration> = (0..9).map(|_| runner.wall(&work)).collect();
    let median = |mut all: Vec<Duration>| {
        all.sort();
        all[all.len() / 2].as_secs_f64()
    };
    let (device, clock) = (median(times), median(walls));
    let rate = work.model_bytes() as f64 / device;
    let mut plan = runner.plan();
    if let Runner::Gpu(gpu) = &runner {
        let mut costs: Vec<Duration> = (0..50).map(|_| gpu.encoding()).collect();
        costs.sort();
        plan += &format!("; encoding {:.0} us", 1e6 * costs[25].as_secs_f64());
    }
    table.push(format!(
        "| {name} | {rows} x {classes} | {} | {:.3} | {:.3} | {:.1} | {:.0} % | {plan} |",
        storage.name(),
        1e3 * device,
        1e3 * clock,
        rate / 1e9,
        100.0 * rate / copy
    ));
}
