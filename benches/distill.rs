//! Time of the whole method, from logits to gradient, at usual shapes.
//!
//! `cargo bench --package wgpu-distill-benches --bench distill` measures the CPU path and the GPU, if there is one.
//! `WGPU_DISTILL_ADAPTER=NAME` selects another adapter. `WGPU_DISTILL_SHAPES=large` adds shapes for hardware.
//! `WGPU_DISTILL_LOSSES=LOSS,LOSS` measures other losses than the method: divergences in their text form, such as `reverse-kl,jsd:0.5`.
//!
//! Every result is compared with the f64 reference first. GPU times are time stamps of the device.
//!
//! A table follows: median, GB/s, share of a plain copy's bandwidth on the same device in the same run, floor, and plan. The floor is the
//! larger of a copy of the same bytes and, on the CPU path, the exponentials alone: two a position, four if a row's are too many to keep.
//! GB/s counts bytes by a model: both rows are read once and the gradient is written once. Sampled tokens have no row of the teacher.
//!
//! The last table has the time of every divergence relative to the method, at two shapes in f32. Losses take turns, and the
//! ratio is the median over the rounds, so that a busy machine slows all of them.

mod work;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use wgpu_distill::{Config, Divergence, Engine, Storage};
use work::{METHOD, Runner, Work};

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

/// Shapes of the table of losses.
const LOSS_SHAPES: [(usize, usize); 2] = [(1024, 32_000), (4096, 1000)];

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
    let losses = std::env::var("WGPU_DISTILL_LOSSES").unwrap_or(METHOD.to_owned());
    let losses: Vec<(&str, Config)> = losses.split(',').map(|l| (l, config(l))).collect();
    let engines = engines();
    let mut table = Vec::new();
    for (name, engine) in &engines {
        println!("{name}: {}", engine.describe());
        for &(rows, classes) in shapes.clone() {
            for storage in Storage::ALL {
                for &loss in &losses {
                    let problem = (rows, classes, storage);
                    measure(&mut criterion, name, engine, problem, loss, &mut table);
                }
            }
        }
    }
    if !table.is_empty() {
        println!(
            "\n| engine | loss | rows x classes | storage | median ms | clock ms | GB/s | of copy | floor ms | times floor | plan |"
        );
        println!("|---|---|---|---|--:|--:|--:|--:|--:|--:|---|");
        table.iter().for_each(|line| println!("{line}"));
    }
    let mut table = Vec::new();
    for (name, engine) in &engines {
        for shape in LOSS_SHAPES {
            compare_losses(&mut criterion, name, engine, shape, &mut table);
        }
    }
    if !table.is_empty() {
        println!(
            "\n| engine | rows x classes | loss | median ms | min ms | time relative to the method |"
        );
        println!("|---|---|---|--:|--:|--:|");
        table.iter().for_each(|line| println!("{line}"));
    }
    criterion.final_summary();
}

fn config(loss: &str) -> Config {
    work::config(loss).unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(1);
    })
}

/// Times of all losses in turn.
struct Losses {
    work: Work,
    runner: Runner,
    /// Name, configuration and times. The method is the first.
    list: Vec<(String, Config, Vec<Duration>)>,
}

impl Losses {
    fn new(engine: &Engine, (rows, classes): (usize, usize)) -> Self {
        let work = Work::new(rows, classes, Storage::F32, 0);
        let names = Divergence::ALL.map(|divergence| divergence.to_string());
        let names = std::iter::once(METHOD.to_owned()).chain(names);
        let mut losses = Self {
            runner: Runner::new(engine, &work),
            work,
            list: names.map(|n| (n.clone(), config(&n), Vec::new())).collect(),
        };
        for i in 0..losses.list.len() {
            losses.select(i);
            losses.runner.check(&losses.work);
        }
        losses
    }

    fn select(&mut self, i: usize) {
        self.work.config = self.list[i].1;
        let planned = self.runner.plan_for(&self.work, None);
        planned.expect("every device can run the plan's own tiling");
    }

    /// Times every loss once. Returns the sum.
    fn round(&mut self) -> Duration {
        (0..self.list.len())
            .map(|i| {
                self.select(i);
                // The first call after another loss loads its code.
                self.runner.time(&self.work);
                let time = self.runner.time(&self.work);
                self.list[i].2.push(time);
                time
            })
            .sum()
    }
}

/// Adds the time of every divergence, without the label's part, relative to the method.
fn compare_losses(
    criterion: &mut Criterion,
    name: &str,
    engine: &Engine,
    shape: (usize, usize),
    table: &mut Vec<String>,
) {
    let mut group = criterion.benchmark_group(format!("distill/{name}"));
    group.sampling_mode(SamplingMode::Flat);
    let (rows, classes) = shape;
    let mut losses = None;
    let id = BenchmarkId::new("losses", format!("{rows}x{classes}"));
    group.bench_function(id, |bencher| {
        // Created on first use, since a filter on the command line may exclude the table.
        let losses = losses.get_or_insert_with(|| Losses::new(engine, shape));
        bencher.iter_custom(|n| (0..n).map(|_| losses.round()).sum());
    });
    group.finish();
    let Some(Losses { mut list, .. }) = losses else {
        return;
    };
    let of_method = list[0].2.clone();
    for (loss, _, times) in &mut list {
        let in_turn = times.iter().zip(&of_method);
        let mut ratios: Vec<f64> = in_turn.map(|(t, m)| t.div_duration_f64(*m)).collect();
        ratios.sort_by(f64::total_cmp);
        times.sort();
        let middle = times.len() / 2;
        let [median, least] = [times[middle], times[0]].map(|t| 1e3 * t.as_secs_f64());
        table.push(format!(
            "| {name} | {rows} x {classes} | {loss} | {median:.3} | {least:.3} | {:.2} |",
            ratios[middle]
        ));
    }
}

fn measure(
    criterion: &mut Criterion,
    name: &str,
    engine: &Engine,
    (rows, classes, storage): (usize, usize, Storage),
    (loss, config): (&str, Config),
    table: &mut Vec<String>,
) {
    let mut group = criterion.benchmark_group(match loss {
        METHOD => format!("distill/{name}"),
        loss => format!("distill/{name}/{loss}"),
    });
    let id = BenchmarkId::new(format!("{rows}x{classes}"), storage.name());
    let mut times = Vec::new();
    let mut sets: Vec<(Work, Runner)> = Vec::new();
    let bytes = work::model_bytes(&config, rows, classes, storage);
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function(id, |bencher| {
        // Created on first use, since a filter on the command line may exclude this shape.
        if sets.is_empty() {
            for seed in 0..ROTATED_BYTES.div_ceil(bytes as usize).clamp(1, MOST_SETS) {
                let mut work = Work::new(rows, classes, storage, seed as u64);
                work.config = config;
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
    // The larger of a copy of the same bytes and the exponentials alone.
    let exponentials = runner.exponentials(&work).unwrap_or_default();
    let floor = (work.model_bytes() as f64 / copy).max(exponentials.as_secs_f64());
    let mut plan = runner.plan();
    if let Runner::Gpu(gpu) = &runner {
        let mut costs: Vec<Duration> = (0..50).map(|_| gpu.encoding()).collect();
        costs.sort();
        plan += &format!("; encoding {:.0} us", 1e6 * costs[25].as_secs_f64());
    }
    table.push(format!(
        "| {name} | {loss} | {rows} x {classes} | {} | {:.3} | {:.3} | {:.1} | {:.0} % | {:.3} | {:.1} | {plan} |",
        storage.name(),
        1e3 * device,
        1e3 * clock,
        rate / 1e9,
        100.0 * rate / copy,
        1e3 * floor,
        device / floor
    ));
}
