//! Out of memory at any allocation: the call returns an error and the context stays usable.
//!
//! `ulimit -v` sets the bound for a child process.
//!
//! Only a software adapter can run within such a bound, since a driver's mappings of GPU memory count too.

#![cfg(target_os = "linux")]

use crate::{adapter, report};
use std::process::Command;
use std::sync::{Arc, Mutex};

use wgpu_distill::cpu::Cpu;
use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use wgpu_distill::{
    Batch, Config, Decision, Error, Logits, Outputs, Progress, RowStats, Scope, Storage, Values,
    half, wgpu,
};

const CHILD: &str = "WGPU_DISTILL_LITTLE_MEMORY";
const CLASSES: usize = 1000;
/// Rows of the largest matrix.
const ROWS: usize = 100_000;

#[test]
fn running_out_of_memory_is_an_error() {
    let _turn = crate::turn();
    if let Some(role) = std::env::var_os(CHILD) {
        // The driver's first allocations differ from run to run. If they exceed the bound, creating the device fails, which is not tested here.
        match pollster::block_on(Gpu::named("llvmpipe")) {
            Ok(_) if role == "measure" => println!("\nKiB in use: {}", in_use_kib()),
            Ok(gpu) => within_bounds(&gpu, role == "run, narrow too"),
            Err(Error::NoDevice { reason, .. }) => println!("no device: {reason}"),
            Err(other) => panic!("{other:?}"),
        }
        return;
    }
    let Some(gpu) = adapter::gpu() else { return };
    if !gpu.device().adapter_info().name.contains("llvmpipe") {
        println!(
            "not run: {} cannot run with a bound on addresses",
            gpu.describe()
        );
        return;
    }
    let test = "running_out_of_memory_is_an_error";
    // The memory of the process before the first matrix, and room for some matrices.
    let in_use = measured(test);
    let mut failed_at = Vec::new();
    for room in (250..=700).step_by(50) {
        // With more room the calls with one class do not run out of memory at other places.
        let role = if room <= 600 {
            "run, narrow too"
        } else {
            "run"
        };
        let words = child(test, role, Some(in_use + room * 1024));
        failed_at.extend(
            words
                .lines()
                .filter(|l| l.contains("MiB a matrix") || l.contains("one class"))
                .map(|l| format!("{room} MiB of room, {l}")),
        );
    }
    println!("{}", failed_at.join("\n"));
    report::ran(&format!(
        "out of memory: {} bounds on the process",
        failed_at.len()
    ));
    // Smaller ones fit into memory that was freed before. The library's own tests let each of them fail.
    for buffer in [
        "student_logits",
        "teacher_logits",
        "gradient",
        "readback",
        "row_results",
        "row_stats",
    ] {
        let label = format!("'{buffer}'");
        let it_failed = failed_at
            .iter()
            .any(|l| l.contains("no memory") && l.contains(&label));
        assert!(
            it_failed,
            "allocating {buffer} never failed, so the test does not cover it"
        );
    }
    for (call, _) in NARROW_CALLS {
        let it_failed = failed_at
            .iter()
            .any(|l| l.contains("no memory") && l.contains(&format!("{call} of one class")));
        assert!(it_failed, "{call} never failed");
    }
}

/// Runs this test in a child process with a limit on its addresses in KiB, and returns its output. Fails if the process fails.
fn child(test: &str, role: &str, bound: Option<u64>) -> String {
    let program = std::env::current_exe().expect("a test is a program");
    let bound = bound.map_or("unlimited".to_owned(), |kib| kib.to_string());
    let child = Command::new("sh")
        .args([
            "-c",
            "ulimit -v \"$0\" && exec \"$1\" --exact \"$2\" --nocapture",
        ])
        .arg(&bound)
        .arg(&program)
        .arg(crate::exact(module_path!(), test))
        .env(CHILD, role)
        // The number of arenas varies between runs, and each takes 64 MiB of addresses or more.
        .env("MALLOC_ARENA_MAX", "1")
        .env("RAYON_NUM_THREADS", "2")
        .output()
        .expect("a shell");
    let words = String::from_utf8_lossy(&child.stdout).into_owned();
    let errors = String::from_utf8_lossy(&child.stderr);
    let status = child.status;
    assert!(
        status.success(),
        "{role} within {bound} KiB: {status}\n{words}\n{errors}"
    );
    words
}

/// Addresses that the test has in use before it begins, in KiB.
fn measured(test: &str) -> u64 {
    let words = child(test, "measure", None);
    let found = words
        .lines()
        .find_map(|l| l.strip_prefix("KiB in use: ")?.parse().ok());
    found.unwrap_or_else(|| panic!("{words}"))
}

/// Results of the CPU path that exceed host memory, for every call that returns a list.
///
/// Inputs of 16-bit logits and one class are smaller than the results.
#[test]
fn no_memory_on_the_host_is_an_error() {
    let _turn = crate::turn();
    let test = "no_memory_on_the_host_is_an_error";
    match std::env::var(CHILD).as_deref() {
        Err(_) => {
            // Room for the inputs, 320 MiB at most, and for no more than a third of the results.
            let words = child(test, "run", Some(measured(test) + (420 << 10)));
            println!("{words}");
        }
        Ok("measure") => println!("\nKiB in use: {}", in_use_kib()),
        Ok(_) => results_without_memory(),
    }
}

fn results_without_memory() {
    let cpu = Cpu::new();
    let progress = Progress::new(1, 2);
    let [row, batch_scope] = [Scope::Row, Scope::Batch].map(|scope| Config {
        scope,
        ..Config::default()
    });
    let is_refused = |about: &str, result: Result<(), Error>| match result {
        Err(Error::OutOfMemory(reason)) => println!("{about}: {reason}"),
        other => panic!("{about}: {other:?}"),
    };
    // A later call works after an error.
    let works = || {
        let few = [0.5, 1.0, -2.0];
        let batch = Batch::new(&few, &few, &[1], 3);
        let done = cpu.run(&row, progress, &batch, Outputs::ALL);
        assert!(done.is_ok(), "{done:?}");
    };
    works();
    {
        // 40 million rows of one class: 80 MB of logits, 160 MB of labels; 640 MB of results, 2.5 GB of statistics.
        let rows = 40_000_000;
        let values = vec![half::bf16::ZERO; rows];
        let labels = vec![0; rows];
        let logits = Logits::new(&values[..], 1);
        let batch = Batch {
            student_logits: logits,
            teacher_logits: logits,
            labels: &labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let only_rows = Outputs {
            rows: true,
            gradient: None,
            metrics: false,
        };
        let run = |config| cpu.run(config, progress, &batch, only_rows).map(drop);
        is_refused("rows", run(&row));
        let summary = cpu.run(&batch_scope, progress, &batch, Outputs::SUMMARY);
        is_refused("statistics within a run", summary.map(drop));
        is_refused("statistics", cpu.observe(&row, &batch).map(drop));
        works();
    }
    {
        // 160 million elements: 16-bit inputs, f32 results of twice the size.
        let (rows, classes) = (160, 1_000_000);
        let values = vec![half::bf16::ZERO; rows * classes];
        let labels = vec![0; rows];
        let logits = Logits::new(&values[..], classes);
        let batch = Batch {
            student_logits: logits,
            teacher_logits: logits,
            labels: &labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let run = cpu.run(&row, progress, &batch, Outputs::ALL);
        is_refused("gradient", run.map(drop));
        is_refused("softmax", cpu.softmax(&logits, rows, 1.0).map(drop));
        let decisions = vec![Decision::default(); rows];
        let apply = cpu.apply(&row, &batch, &decisions);
        is_refused("apply", apply.map(drop));
        works();
    }
    {
        // Statistics of 360 MiB leave too little room for their decisions.
        let rows = (360 << 20) / size_of::<RowStats>();
        let stats = vec![RowStats::default(); rows];
        let decide = cpu.decide(&row, progress, &stats, 3);
        is_refused("decide", decide.map(drop));
    }
    works();
}

/// A batch larger than the device's buffers, read back in row ranges. Host memory ends between two of them.
#[test]
fn no_memory_for_further_row_ranges_is_an_error() {
    let _turn = crate::turn();
    let test = "no_memory_for_further_row_ranges_is_an_error";
    let Some(gpu) = adapter::gpu() else { return };
    let info = gpu.device().adapter_info();
    if !info.name.contains("llvmpipe") {
        println!("not run: {} cannot run within a bound", gpu.describe());
        return;
    }
    match std::env::var(CHILD).as_deref() {
        Err(_) => {
            let in_use = measured(test);
            let outcomes: Vec<String> = [400, 1200]
                .map(|room| child(test, "run", Some(in_use + (room << 10))))
                .into();
            assert!(outcomes[0].contains("no memory"), "{}", outcomes[0]);
            assert!(outcomes[1].contains("done"), "{}", outcomes[1]);
        }
        Ok("measure") => println!("\nKiB in use: {}", in_use_kib()),
        Ok(_) => row_ranges_without_memory(&gpu),
    }
}

fn row_ranges_without_memory(gpu: &Gpu) {
    // On the adapter of the same name, with buffers of 16 MiB, so that most memory is used by the host's results.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let name = gpu.device().adapter_info().name;
    let adapter = found.into_iter().find(|a| a.get_info().name == name);
    let request = wgpu::DeviceDescriptor {
        required_limits: wgpu::Limits {
            max_buffer_size: 16 << 20,
            ..wgpu::Limits::default()
        },
        ..Default::default()
    };
    let device = adapter
        .expect("it was there before")
        .request_device(&request);
    let (device, queue) = pollster::block_on(device).expect("a device");
    let small = Gpu::new(&device, &queue);
    let (rows, classes) = (50_000, 1000);
    let values = vec![half::bf16::ZERO; rows * classes];
    let labels = vec![0; rows];
    let logits = Logits::new(&values[..], classes);
    let batch = Batch {
        student_logits: logits,
        teacher_logits: logits,
        labels: &labels,
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let run = |batch: &Batch<'_>| {
        let progress = Progress::new(1, 2);
        small.run(&Config::default(), progress, batch, Outputs::ALL)
    };
    match run(&batch) {
        Ok(done) => {
            assert_eq!(done.summary.valid_rows as usize, rows);
            println!("done");
        }
        Err(Error::OutOfMemory(reason)) => println!("no memory: {reason}"),
        Err(other) => panic!("{other:?}"),
    }
    let logits = Logits::new(&values[..8 * classes], classes);
    let few = Batch {
        student_logits: logits,
        teacher_logits: logits,
        labels: &labels[..8],
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let later = run(&few);
    assert!(later.is_ok(), "{later:?}");
}

/// Addresses in use, in KiB.
fn in_use_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|l| l.starts_with("VmSize:"))
        .expect("Linux");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn within_bounds(gpu: &Gpu, narrow_too: bool) {
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let sink = heard.clone();
    gpu.device()
        .on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            sink.lock().unwrap().push(error.to_string());
        }));
    // The host's copy uses part of the room, too, so student and teacher share one.
    let values: Vec<f32> = (0..ROWS * CLASSES / 4)
        .map(|i| (i % 1013) as f32 / 64.0)
        .collect();
    let mut labels = vec![1; ROWS];
    let progress = Progress::new(1, 2);
    let small = || {
        let few = &values[..8 * CLASSES];
        gpu.run(
            &Config::default(),
            progress,
            &Batch::new(few, few, &labels[..8], CLASSES),
            Outputs::ALL,
        )
    };
    let before = small().expect("there is room for this");
    for share in [6, 4] {
        let rows = ROWS / share;
        let mib = (rows * CLASSES * 4) >> 20;
        let matrix = &values[..rows * CLASSES];
        let batch = Batch::new(matrix, matrix, &labels[..rows], CLASSES);
        for scope in [Scope::Row, Scope::Batch] {
            let config = Config {
                scope,
                ..Config::default()
            };
            match gpu.run(&config, progress, &batch, Outputs::ALL) {
                Ok(done) => {
                    assert_eq!(done.summary.valid_rows as usize, rows);
                    println!("{mib} MiB a matrix, {scope:?}: done");
                }
                Err(Error::OutOfMemory(reason)) => {
                    println!("{mib} MiB a matrix, {scope:?}: no memory: {reason}");
                }
                Err(other) => panic!("{mib} MiB: {other:?}"),
            }
            assert_eq!(
                small().expect("there is room for this"),
                before,
                "after {mib} MiB"
            );
        }
    }
    // Many rows of one class, whose row data is larger than the matrices.
    labels.clear();
    labels.resize(NARROW_ROWS, 0);
    let narrow = &values[..NARROW_ROWS];
    let batch = Batch::new(narrow, narrow, &labels, 1);
    let calls = NARROW_CALLS.into_iter().filter(|_| narrow_too);
    for (about, call) in calls {
        match call(gpu, &batch) {
            Ok(()) => println!("{about} of one class: done"),
            Err(Error::OutOfMemory(reason)) => {
                println!("{about} of one class: no memory: {reason}");
            }
            Err(other) => panic!("{about}: {other:?}"),
        }
    }
    let heard = heard.lock().unwrap();
    assert!(heard.is_empty(), "uncaptured errors: {heard:?}");
}

const NARROW_ROWS: usize = 8_000_000;

/// Skips a call if the test itself has no memory for its inputs.
fn zeros<T: bytemuck::Zeroable>(n: usize) -> Vec<T> {
    bytemuck::allocation::try_zeroed_vec(n).unwrap_or_default()
}

type Call = fn(&Gpu, &Batch<'_>) -> Result<(), Error>;

const NARROW_CALLS: [(&str, Call); 7] = [
    ("run", |gpu, batch| {
        let config = Config::default();
        let run = gpu.run(&config, Progress::new(1, 2), batch, Outputs::ALL);
        run.map(drop)
    }),
    ("run_async", |gpu, batch| {
        let config = Config::default();
        let run = gpu.run_async(&config, Progress::new(1, 2), batch, Outputs::ALL);
        pollster::block_on(run).map(drop)
    }),
    ("softmax", |gpu, batch| {
        // The same numbers in rows of more classes. Rows of one class would be uploaded in many small row ranges.
        let logits = Logits {
            classes: CLASSES,
            row_stride: CLASSES,
            ..batch.student_logits
        };
        gpu.softmax(&logits, NARROW_ROWS / CLASSES, 1.0).map(drop)
    }),
    ("observe", |gpu, batch| {
        gpu.observe(&Config::default(), batch).map(drop)
    }),
    ("decide", |gpu, batch| {
        let stats: Vec<RowStats> = zeros(batch.rows() / 16);
        let decide = gpu.decide(&Config::default(), Progress::new(1, 2), &stats, 1);
        decide.map(drop)
    }),
    ("apply", |gpu, batch| {
        // As for `softmax`.
        let decisions: Vec<Decision> = zeros(NARROW_ROWS / CLASSES);
        let labels = &batch.labels[..decisions.len()];
        let Values::F32(values) = batch.student_logits.values else {
            panic!("the logits are f32");
        };
        let values = &values[..labels.len() * CLASSES];
        let batch = Batch::new(values, values, labels, CLASSES);
        let apply = gpu.apply(&Config::default(), &batch, &decisions);
        apply.map(drop)
    }),
    ("encode", encode_narrow),
];

/// `encode` on buffers of the caller that exist, with an internal workspace that may not fit.
fn encode_narrow(gpu: &Gpu, batch: &Batch<'_>) -> Result<(), Error> {
    let device = gpu.device();
    // The statistics of more rows exceed a buffer.
    let rows = batch.rows() / 8;
    let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("the caller's"),
        size: 4 * rows as u64,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    if pollster::block_on(scope.pop()).is_some() {
        return Ok(());
    }
    let logits = GpuLogits::new(&buffer, Storage::F32, 1);
    let on_device = GpuBatch {
        rows,
        student_logits: logits,
        teacher_logits: logits,
        labels: GpuSlice {
            buffer: &buffer,
            offset: 0,
        }
        .into(),
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let config = Config {
        scope: Scope::Batch,
        ..Config::default()
    };
    let mut encoder = device.create_command_encoder(&Default::default());
    let encoded = gpu.encode(
        &mut encoder,
        &config,
        Progress::new(1, 2),
        &on_device,
        &GpuOutputs::default(),
        None,
    );
    // The encoder stays usable in both cases.
    gpu.queue().submit([encoder.finish()]);
    let waited = device.poll(wgpu::PollType::wait_indefinitely());
    waited.expect("the device works");
    encoded
}
