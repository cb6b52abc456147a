//! The kernels in Chromium. Its WebGPU compiler (Tint) checks more than naga, above all uniform control flow.
//!
//! Every shader variant is compiled. Pipelines take long in software, so the short run makes some of them and
//! `WGPU_DISTILL_DEPTH=full` makes all.
//!
//! The browser also computes cases of the table, in a page that has only the list of dispatches of each plan.
//!
//! `WGPU_DISTILL_CHROMIUM` names the browser. `WGPU_DISTILL_SKIP_CHROMIUM=1` skips these tests.
//!
//! A lost device reports no errors. So the page checks at the end that the device is not lost and still refuses invalid shaders.

#[path = "../cases/mod.rs"]
mod cases;
#[path = "../problems/mod.rs"]
mod problems;
#[path = "../report/mod.rs"]
mod report;
#[path = "../variants/mod.rs"]
mod variants;

mod buffers;
mod run;
mod visit;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cases::is_full;
use serde_json::{Value, json};
use visit::{count, list};
use wgpu_distill::shader::Dialect;

/// The short run makes a pipeline of each kernel's first text and of every `SHARE`th text.
///
/// A prime, so that the selection is independent of the loops that make the list.
const SHARE: usize = 31;

/// Texts that must be refused: the first as a module, the second as a pipeline.
const WRONG: [(&str, &str); 2] = [
    (
        "a barrier that some invocations miss",
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) { if i > 3u { workgroupBarrier(); } }",
    ),
    (
        "more workgroup memory than there is",
        "var<workgroup> words: array<u32, 4000000>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) { words[i] = i; }",
    ),
];

#[test]
fn every_variant_compiles_in_chromium() {
    if visit::is_skipped() {
        return;
    }
    let all = variants::texts(Dialect::Standard);
    let mut kernels = HashSet::new();
    let texts: Vec<Value> = all
        .iter()
        .enumerate()
        .map(|(i, (kernel, variant, code))| {
            json!({
                "about": format!("{} {variant:?}", kernel.name()),
                "code": code,
                "size": variant.workgroup_size,
                "subgroup": variant.subgroup_min.is_some(),
                "pipeline": kernels.insert(*kernel) || is_full() || i % SHARE == 0,
            })
        })
        .collect();
    let asked: Vec<bool> = texts
        .iter()
        .filter(|text| text["pipeline"] == true)
        .map(|text| text["subgroup"] == true)
        .collect();
    let wrong = WRONG.map(
        |(about, code)| json!({"about": about, "code": code, "size": 64, "pipeline": true, "wrong": true}),
    );
    let texts = Value::Array(texts.into_iter().chain(wrong).collect()).to_string();

    let answer =
        move |path: &str, _: Vec<u8>| (path == "/texts").then(|| texts.clone().into_bytes());
    let patience = Duration::from_secs(if is_full() { 3600 } else { 600 });
    let result = visit::visit(include_str!("compile.html"), Arc::new(answer), patience);

    report::ran(&format!(
        "chromium, texts, {}: {} of {} shader texts compiled, {} of {} pipelines asked for; left out: {} texts without subgroup support, \
         {} pipelines above the adapter's limit of {} invocations",
        result["adapter"],
        count(&result, "modules"),
        all.len(),
        count(&result, "pipelines"),
        asked.len(),
        count(&result, "withoutSubgroups"),
        count(&result, "tooLarge"),
        result["most"],
    ));
    let errors = list(&result, "errors");
    assert!(
        errors.is_empty(),
        "{} texts are refused:\n{}",
        errors.len(),
        errors.join("\n")
    );
    let refused = list(&result, "refused");
    for ((about, _), said) in WRONG.iter().zip(&refused) {
        assert_ne!(*said, format!("{about}: "), "this must be refused");
    }
    assert_eq!(refused.len(), WRONG.len());
    assert_eq!(
        count(&result, "modules") + count(&result, "withoutSubgroups"),
        all.len()
    );
    visit::subgroups(count(&result, "withoutSubgroups") == 0);
    let possible = asked
        .iter()
        .filter(|&&s| !s || count(&result, "withoutSubgroups") == 0);
    assert_eq!(
        count(&result, "pipelines") + count(&result, "tooLarge"),
        possible.count()
    );
    assert!(
        count(&result, "pipelines") > 8,
        "too few pipelines were created"
    );
}
