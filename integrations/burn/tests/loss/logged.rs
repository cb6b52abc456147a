//! The log line for logits beside a shared device. It comes once a process, so that each test runs in a process of its own.

use std::process::Command;

use burn::tensor::Device;
use burn_distill::{DistillationLossConfig, ExecutionPath, Progress};

use crate::devices;
use crate::inputs::{labels, logits};

/// Prints each record of this crate.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("burn_distill") {
            println!("\n{}: {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}

const ROLE: &str = "BURN_DISTILL_LOGGED";

fn losses(device: &Device) {
    for _ in 0..3 {
        DistillationLossConfig::new().init().forward(
            logits(1, 4, 5, device),
            logits(2, 4, 5, device),
            labels(4, 5, device),
            Progress::new(1, 2),
        );
    }
}

/// Does nothing unless the other tests of this file start it.
#[test]
fn in_a_process_of_its_own() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    log::set_logger(&Printer).expect("the only logger");
    log::set_max_level(log::LevelFilter::Warn);
    let unshared = devices::unshared().expect("the parent found a device");
    losses(&unshared);
    println!("\nnothing is shared");
    if role == "beside" {
        let shared = devices::shared().expect("the parent found a device");
        losses(&shared);
        losses(&unshared);
        losses(&Device::flex());
        assert_eq!(ExecutionPath::of(&shared), ExecutionPath::SharedDevice);
    }
}

fn lines(role: &str) -> Vec<String> {
    let exe = std::env::current_exe().expect("this test");
    let child = Command::new(exe)
        .args(["logged::in_a_process_of_its_own", "--exact", "--nocapture"])
        .env(ROLE, role)
        .output()
        .expect("it starts");
    let out = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{out}");
    let lines = out
        .lines()
        .filter(|line| line.starts_with("WARN") || line.starts_with("nothing"));
    lines.map(str::to_owned).collect()
}

#[test]
fn logits_beside_a_shared_device_are_logged_once() {
    if devices::application().is_none() {
        return;
    }
    let [nothing, line] = lines("beside").try_into().expect("one warning");
    assert_eq!(nothing, "nothing is shared");
    assert!(line.contains("burn-distill: the logits are on"), "{line}");
    assert!(
        line.contains("`Device::default()` is another one"),
        "{line}"
    );
    assert_eq!(lines("alone"), ["nothing is shared"]);
}
