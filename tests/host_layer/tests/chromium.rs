//! Builds the library of this package for wasm32, opens it in Chromium and reads its report.
//!
//! `WGPU_DISTILL_DEPTH=full` runs every case that slices support. `WGPU_DISTILL_CHROMIUM` names the browser.
//! `WGPU_DISTILL_SKIP_CHROMIUM=1` skips the test.

#![cfg(not(target_arch = "wasm32"))]

#[path = "../../cases/depth.rs"]
#[allow(dead_code)]
mod depth;
#[path = "../../report/mod.rs"]
mod report;
#[path = "../../browser/visit.rs"]
#[allow(dead_code)]
mod visit;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use wasm_bindgen_cli_support::Bindgen;

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the library for wasm32 and returns the path of the module.
fn build() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--quiet", "--profile", "quick"]);
    cargo.args([
        "--lib",
        "--target",
        TARGET,
        "--package",
        env!("CARGO_PKG_NAME"),
    ]);
    cargo.arg("--message-format=json-render-diagnostics");
    // Flags such as `-C target-cpu=native` apply to the host alone.
    cargo
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let done = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let done = done.expect("cargo can be run");
    assert!(
        done.status.success(),
        "{}\nthe library was not built for {TARGET}; if the target is missing: rustup target add {TARGET}",
        String::from_utf8_lossy(&done.stderr)
    );
    let messages = String::from_utf8(done.stdout).expect("cargo's messages are text");
    let mut files = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        if message["target"]["name"] != "host_layer" {
            return None;
        }
        let files = message["filenames"].as_array()?.iter();
        let mut paths = files.filter_map(Value::as_str).map(PathBuf::from);
        paths.find(|path| path.extension().is_some_and(|e| e == "wasm"))
    });
    files.next().expect("cargo names the module")
}

/// The module and the script that loads it in a browser.
fn bind(module: &Path) -> (Vec<u8>, String) {
    let mut bindgen = Bindgen::new();
    let bindgen = bindgen.input_path(module).typescript(false);
    let bindgen = bindgen.web(true).expect("no other target was chosen");
    let mut output = bindgen.generate_output().expect("bindings are made");
    (output.wasm_mut().emit_wasm(), output.js().to_owned())
}

#[test]
fn the_host_layer_is_right_in_chromium() {
    if visit::is_skipped() {
        return;
    }
    let whole_table = depth::is_full();
    let (module, script) = bind(&build());
    let answer = move |path: &str, _: Vec<u8>| match path {
        "/host_layer.js" => Some(script.clone().into_bytes()),
        "/host_layer.wasm" => Some(module.clone()),
        "/whole_table" => Some(whole_table.to_string().into_bytes()),
        _ => None,
    };
    let patience = Duration::from_secs(if whole_table { 3600 } else { 600 });
    let result = visit::visit(include_str!("../page.html"), Arc::new(answer), patience);

    let [cases, steps] = ["cases", "steps"].map(|name| visit::count(&result, name));
    let failures = visit::list(&result, "failures");
    let extent = if whole_table { "all" } else { "a cover" };
    report::ran(&format!(
        "chromium, host layer, {}: {cases} cases ({extent} of those for slices) on WebGPU and on the CPU path, {steps} in single steps",
        result["adapter"]
    ));
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(cases >= 35, "only {cases} cases ran");
    assert!(steps >= 3, "only {steps} cases ran in single steps");
}
