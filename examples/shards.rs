//! One step of training on four devices that share the classes of a vocabulary (tensor parallel), with the three messages of a step.
//!
//! Threads stand for the devices, and a list behind a lock for the network: any collective that gathers bytes takes its place.
//! `cargo run --release --example shards`

use std::sync::{Barrier, Mutex};
use std::thread;

use wgpu_distill::bytemuck::{self, Pod};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{
    Batch, Config, Divergence, Error, Outputs, Progress, Shard, finish_shards, merge_shards,
};

const ROWS: usize = 64;
const HIDDEN: usize = 32;
const CLASSES: usize = 5_000;
/// The first class of each device, and all classes.
const STARTS: [usize; 5] = [0, 1_250, 2_500, 3_750, CLASSES];

struct Network {
    slots: Mutex<Vec<Vec<u8>>>,
    barrier: Barrier,
}

impl Network {
    /// Every device gives its items and gets those of all, in the order of the devices.
    fn all_gather<T: Pod>(&self, device: usize, what: &str, own: &[T]) -> Vec<Vec<T>> {
        let bytes: &[u8] = bytemuck::cast_slice(own);
        if device == 0 {
            println!(
                "{what}: each device sends {} bytes a row",
                bytes.len() / ROWS
            );
        }
        self.slots.lock().expect("no device failed")[device] = bytes.to_vec();
        self.barrier.wait();
        let all = {
            let slots = self.slots.lock().expect("no device failed");
            let items = slots
                .iter()
                .map(|bytes| bytemuck::pod_collect_to_vec(bytes));
            items.collect()
        };
        // Nobody writes before everybody has read.
        self.barrier.wait();
        all
    }
}

/// `[ROWS, columns]`: the last layer of a network, of the classes `first..first + columns`.
fn logits(hidden: &[f32], first: usize, columns: usize, seed: usize) -> Vec<f32> {
    let of = |row: &[f32], class| {
        let terms = row.iter().enumerate();
        terms.map(|(i, h)| h * weight(class, i, seed)).sum()
    };
    let rows = hidden.chunks(HIDDEN);
    rows.flat_map(|row| (first..first + columns).map(move |class| of(row, class)))
        .collect()
}

/// A weight of the last layer, by a hash.
fn weight(class: usize, i: usize, seed: usize) -> f32 {
    let hash = (class * HIDDEN + i + 1).wrapping_mul(0x9e37_79b1 + 2 * seed) as u32;
    (hash.wrapping_mul(0x85eb_ca6b) >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// The gradient of the layer below, `[ROWS, HIDDEN]`, from that of some classes.
fn below(gradient: &[f32], first: usize, columns: usize) -> Vec<f32> {
    let of = |row: &[f32], i| {
        let terms = row.iter().enumerate();
        terms
            .map(|(class, g)| g * weight(first + class, i, 1))
            .sum()
    };
    let rows = gradient.chunks(columns);
    rows.flat_map(|row| (0..HIDDEN).map(move |i| of(row, i)))
        .collect()
}

/// The step of one device. Returns the gradient of the layer below, of all devices.
fn step(device: usize, net: &Network, config: &Config, input: &Input) -> Result<Vec<f32>, Error> {
    let (first, columns) = (STARTS[device], STARTS[device + 1] - STARTS[device]);
    let shard = Shard::new(first, CLASSES);
    let student = logits(&input.hidden, first, columns, 1);
    let teacher = logits(&input.hidden, first, columns, 2);
    let batch = Batch::new(&student, &teacher, &input.labels, columns);
    let cpu = Cpu::new().with_threads(1);

    let own = cpu.observe_shard(config, &batch, shard)?;
    let all = net.all_gather(device, "1. statistics", &own);
    let all: Vec<_> = all.iter().map(Vec::as_slice).collect();
    let merged = merge_shards(config, &all)?;

    let mut sweeps = Vec::new();
    if config.sweeps_twice() {
        let own = cpu.sweep_shard(config, &batch, shard, &merged)?;
        sweeps = net.all_gather(device, "2. sums of the second sweep", &own);
    }
    let sweeps: Vec<_> = sweeps.iter().map(Vec::as_slice).collect();
    let row_stats = finish_shards(config, &merged, &sweeps)?;

    let decisions = cpu.decide(config, input.progress, &row_stats, CLASSES)?;
    let gradient = cpu.apply_shard(config, &batch, shard, &decisions)?;
    let own = below(&gradient, first, columns);
    let all = net.all_gather(device, "3. gradient of the layer below", &own);
    let sum = |i| all.iter().map(|part: &Vec<f32>| part[i]).sum();
    Ok((0..own.len()).map(sum).collect())
}

struct Input {
    hidden: Vec<f32>,
    labels: Vec<i32>,
    progress: Progress,
}

fn main() -> Result<(), Error> {
    let devices = STARTS.len() - 1;
    let input = Input {
        hidden: (0..ROWS * HIDDEN).map(|i| weight(i, 7, 3)).collect(),
        labels: (0..ROWS).map(|row| (row * 79 % CLASSES) as i32).collect(),
        progress: Progress::new(30, 100),
    };
    // A loss of two sweeps, so that there is a second message.
    let config = Config {
        divergence: Divergence::Jsd { beta: 0.5 },
        label_smoothing: 0.1,
        ..Config::default()
    };
    let net = Network {
        slots: Mutex::new(vec![Vec::new(); devices]),
        barrier: Barrier::new(devices),
    };
    let results = thread::scope(|scope| {
        let (net, config, input) = (&net, &config, &input);
        let start = |device| scope.spawn(move || step(device, net, config, input));
        let threads: Vec<_> = (0..devices).map(start).collect();
        let joined = threads.into_iter().map(|t| t.join().expect("no panic"));
        joined.collect::<Result<Vec<_>, _>>()
    })?;

    // The same step on one device.
    let student = logits(&input.hidden, 0, CLASSES, 1);
    let teacher = logits(&input.hidden, 0, CLASSES, 2);
    let batch = Batch::new(&student, &teacher, &input.labels, CLASSES);
    let whole = Cpu::new().run(&config, input.progress, &batch, Outputs::GRADIENT)?;
    let whole = below(&whole.into_grad_student_logits(), 0, CLASSES);
    let largest = whole.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let of = |own: &Vec<f32>| {
        let off = own.iter().zip(&whole).map(|(g, w)| (g - w).abs());
        off.fold(0.0, f32::max)
    };
    let off = results.iter().map(of).fold(0.0, f32::max) / largest;
    println!("{devices} devices and one differ by {off:.0e} of the largest element");
    assert!(off < 1e-5 && results.iter().all(|own| *own == results[0]));
    Ok(())
}
