//! Memory that runs out, at whichever allocation it does: an error that says so, and the context works on.
//!
//! The system sets the bound (`ulimit -v`) on a process of its own. Only a software adapter lives within one: what a driver maps of a GPU counts as well.

#![cfg(target_os = "linux")]

use std::process::Command;
use std::sync::{Arc, Mutex};

use wgpu_distill::gpu::Gpu;
use wgpu_distill::{Batch, Config, Error, Outputs, Progress, Scope, wgpu};

#[path = "adapter/mod.rs"]
mod adapter;

const CHILD: &str = "WGPU_DISTILL_LITTLE_MEMORY";
const CLASSES: usize = 1000;
/// Of the largest matrix.
const ROWS: usize = 100_000;

#[test]
fn running_out_of_memory_is_an_error() {
    if let Some(role) = std::env::var_os(CHILD) {
        // What the driver takes at first differs from run to run. Too much for the bound is an error as well, and no fault of ours.
        match pollster::block_on(Gpu::named("llvmpipe")) {
            Ok(_) if role == "measure" => println!("\nKiB in use: {}", in_use_kib()),
            Ok(gpu) => within_bounds(&gpu),
            Err(Error::NoDevice { reason, .. }) => println!("no device: {reason}"),
            Err(other) => panic!("{other:?}"),
        }
        return;
    }
    let Some(gpu) = adapter::gpu() else { return };
    if !gpu.device().adapter_info().name.contains("llvmpipe") {
        println!(
            "not run: {} does not live within a bound on addresses",
            gpu.describe()
        );
        return;
    }
    let program = std::env::current_exe().expect("a test is a program");
    let child = |bound: &str, role: &str| {
        Command::new("sh")
            .args(["-c", "ulimit -v \"$0\" && exec \"$1\" --exact running_out_of_memory_is_an_error --nocapture"])
            .arg(bound)
            .arg(&program)
            .env(CHILD, role)
            // How many arenas there are depends on how threads meet, and each takes 64 MiB of addresses or more.
            .env("MALLOC_ARENA_MAX", "1")
            .output()
            .expect("a shell")
    };
    // What the process takes before the first matrix, and room for some of them.
    let measured = child("unlimited", "measure");
    let words = String::from_utf8_lossy(&measured.stdout);
    let in_use: u64 = words
        .lines()
        .find_map(|l| l.strip_prefix("KiB in use: ")?.parse().ok())
        .unwrap_or_else(|| panic!("{words}"));
    let mut failed_at = Vec::new();
    for room in (250..=700).step_by(50) {
        let child = child(&(in_use + room * 1024).to_string(), "run");
        let words = String::from_utf8_lossy(&child.stdout);
        let errors = String::from_utf8_lossy(&child.stderr);
        assert!(
            child.status.success(),
            "{room} MiB: {}\n{words}\n{errors}",
            child.status
        );
        failed_at.extend(
            words
                .lines()
                .filter(|l| l.contains("MiB a matrix"))
                .map(|l| format!("{room} MiB of room, {l}")),
        );
    }
    println!("{}", failed_at.join("\n"));
    for buffer in [
        "student_logits",
        "teacher_logits",
        "grad_student_logits",
        "readback",
    ] {
        let label = format!("'{buffer}'");
        let it_failed = failed_at
            .iter()
            .any(|l| l.contains("no memory") && l.contains(&label));
        assert!(
            it_failed,
            "there always was memory for {buffer}: the test does not show what happens without"
        );
    }
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

fn within_bounds(gpu: &Gpu) {
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let sink = heard.clone();
    gpu.device()
        .on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            sink.lock().unwrap().push(error.to_string());
        }));
    // The host's copy is of the room too: both matrices are the same one.
    let values: Vec<f32> = (0..ROWS * CLASSES / 4)
        .map(|i| (i % 1013) as f32 / 64.0)
        .collect();
    let labels = vec![1; ROWS];
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
    let heard = heard.lock().unwrap();
    assert!(heard.is_empty(), "uncaptured errors: {heard:?}");
}
