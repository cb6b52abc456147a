//! The record of what ran.
//!
//! Each line goes to standard output and to the end of the file that `WGPU_DISTILL_REPORT` names. `check` reads that file.

use std::fs::OpenOptions;
use std::io::Write;

/// Records that something ran, with its device and extent.
pub fn ran(line: &str) {
    println!("{line}");
    let Some(path) = std::env::var_os("WGPU_DISTILL_REPORT") else {
        return;
    };
    let file = OpenOptions::new().create(true).append(true).open(&path);
    // A single write, so that the lines of several threads and processes do not mix.
    let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    written.unwrap_or_else(|e| panic!("WGPU_DISTILL_REPORT, {}: {e}", path.display()));
}

/// Records that something was left out, and the variable that caused it.
// Not every test binary leaves something out.
#[allow(dead_code)]
pub fn left_out(what: &str, variable: &str) {
    ran(&format!("NOT RUN: {what} ({variable})"));
}
