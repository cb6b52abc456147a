//! Every shader variant in Chromium: WGSL as specified goes through Tint, whose checks (uniform control flow above all) are stricter than naga's, and on to a pipeline.
//!
//! The test serves a page on the loopback address, starts the browser without a window and waits for what the page reports.
//! `WGPU_DISTILL_CHROMIUM` names the browser, `WGPU_DISTILL_SKIP_CHROMIUM=1` goes without it. Pipelines take long in software:
//! a share of them is made, with `WGPU_DISTILL_LONG=1` all.
//!
//! A lost device refuses nothing, whatever it is given: that it is still there, and still refuses what is wrong, is asked at the end.

#[path = "variants/mod.rs"]
mod variants;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wgpu_distill::shader::Dialect;

/// Of so many texts one becomes a pipeline in the short run, and the first of each kernel: a prime, so that it keeps no step with the
/// loops that make the list.
const SHARE: usize = 13;

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>shaders</title><script type="module">
const report = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
try {
    if (!navigator.gpu) throw new Error("this browser has no WebGPU");
    const adapter = await navigator.gpu.requestAdapter();
    if (!adapter) throw new Error("this browser has no adapter");
    const subgroups = adapter.features.has("subgroups");
    const limits = adapter.limits;
    const device = await adapter.requestDevice({
        requiredFeatures: subgroups ? ["subgroups"] : [],
        requiredLimits: {
            maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
            maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
            maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
        },
    });
    let lost = null;
    device.lost.then((info) => (lost = `the device was lost: ${info.reason} ${info.message}`));
    const { vendor, architecture, description } = adapter.info;
    const result = {
        modules: 0, pipelines: 0, tooLarge: 0, withoutSubgroups: 0, errors: [], refused: [],
        adapter: [vendor, architecture, description].filter((part) => part).join(" "),
        most: limits.maxComputeInvocationsPerWorkgroup,
    };
    // What is wrong with a text, if anything is.
    const compile = async ({ code, size, pipeline, wrong }) => {
        device.pushErrorScope("validation");
        const module = device.createShaderModule({ code });
        const { messages } = await module.getCompilationInfo();
        const errors = messages.filter((m) => m.type == "error").map((m) => `line ${m.lineNum}: ${m.message}`);
        const scope = await device.popErrorScope();
        if (scope && !errors.length) errors.push(scope.message);
        if (!wrong) result.modules += 1;
        if (!errors.length && pipeline) {
            if (size > limits.maxComputeInvocationsPerWorkgroup) {
                result.tooLarge += 1;
            } else {
                try {
                    await device.createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint: "main" } });
                    if (!wrong) result.pipelines += 1;
                } catch (error) {
                    errors.push(`pipeline: ${error.message}`);
                }
            }
        }
        return errors.join("; ");
    };
    for (const text of await (await fetch("/texts")).json()) {
        if (text.subgroup && !subgroups) {
            result.withoutSubgroups += 1;
            continue;
        }
        const errors = await compile(text);
        if (lost) throw new Error(`${lost}, at ${text.about}`);
        if (text.wrong) result.refused.push(`${text.about}: ${errors}`);
        else if (errors) result.errors.push(`${text.about}: ${errors}`);
    }
    await report(result);
} catch (error) {
    await report({ failure: String(error) });
}
</script>"#;

/// Texts that must be refused, the first as a module, the second as a pipeline.
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

/// Ends the browser however the test ends.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(address: &str, profile: &std::path::Path) -> Browser {
    let named = std::env::var("WGPU_DISTILL_CHROMIUM");
    let names = match &named {
        Ok(name) => vec![name.as_str()],
        Err(_) => vec!["chromium", "chromium-browser", "google-chrome"],
    };
    for name in &names {
        let child = Command::new(name)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--no-first-run",
                "--enable-unsafe-webgpu",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(address)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Ok(child) = child {
            return Browser(child);
        }
    }
    panic!(
        "none of {names:?} could be started; install Chromium, name it by WGPU_DISTILL_CHROMIUM, or set WGPU_DISTILL_SKIP_CHROMIUM=1"
    )
}

/// One request: the page, the texts, or the result, which is passed on.
fn answer(stream: TcpStream, texts: &str, result: &Sender<Value>) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap_or(0);
        }
    }
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    let (status, kind, body) = match path {
        "/" => ("200 OK", "text/html", PAGE),
        "/texts" => ("200 OK", "application/json", texts),
        "/result" => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let value =
                serde_json::from_slice(&body).unwrap_or_else(|e| json!({"failure": e.to_string()}));
            let _ = result.send(value);
            ("200 OK", "text/plain", "")
        }
        _ => ("404 Not Found", "text/plain", ""),
    };
    let size = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    );
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(body.as_bytes())
}

#[test]
fn every_variant_compiles_in_chromium() {
    if std::env::var_os("WGPU_DISTILL_SKIP_CHROMIUM").is_some() {
        println!("skipped by WGPU_DISTILL_SKIP_CHROMIUM");
        return;
    }
    let is_long = std::env::var_os("WGPU_DISTILL_LONG").is_some();
    let list = variants::texts(Dialect::Standard);
    let texts: Vec<Value> = list
        .iter()
        .enumerate()
        .map(|(i, (kernel, variant, code))| {
            json!({
                "about": format!("{} {variant:?}", kernel.name()),
                "code": code,
                "size": variant.workgroup_size,
                "subgroup": variant.subgroup_min.is_some(),
                "pipeline": is_long || i % SHARE == 0 || *kernel != list[i - 1].0,
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

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/", listener.local_addr().expect("bound"));
    let (sender, results) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (texts, sender) = (texts.clone(), sender.clone());
            // Browsers open connections in advance: each waits on a thread of its own.
            std::thread::spawn(move || answer(stream, &texts, &sender));
        }
    });
    let profile = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("chromium-{}", std::process::id()));
    let mut browser = start(&address, &profile);
    let patience = Duration::from_secs(if is_long { 3600 } else { 600 });
    let started = Instant::now();
    let result = loop {
        match results.recv_timeout(Duration::from_secs(1)) {
            Err(RecvTimeoutError::Timeout) if started.elapsed() < patience => {}
            done => break done,
        }
        if let Ok(Some(status)) = browser.0.try_wait() {
            panic!("the browser ended before the page reported: {status}");
        }
    };
    drop(browser);
    let _ = std::fs::remove_dir_all(&profile);
    let result = result.expect("the page reports in time");

    assert_eq!(result["failure"], Value::Null, "{result}");
    let count = |name: &str| result[name].as_u64().expect("a count") as usize;
    let list_of = |name: &str| -> Vec<&str> {
        let entries = result[name].as_array().expect("a list");
        entries.iter().filter_map(Value::as_str).collect()
    };
    println!(
        "chromium, {}: {} of {} shader texts compiled, {} of {} pipelines asked for; left out: {} texts for want of subgroups, \
         {} pipelines of more than the adapter's {} invocations",
        result["adapter"],
        count("modules"),
        list.len(),
        count("pipelines"),
        asked.len(),
        count("withoutSubgroups"),
        count("tooLarge"),
        result["most"],
    );
    let errors = list_of("errors");
    assert!(
        errors.is_empty(),
        "{} texts are refused:\n{}",
        errors.len(),
        errors.join("\n")
    );
    let refused = list_of("refused");
    for ((about, _), said) in WRONG.iter().zip(&refused) {
        assert_ne!(*said, format!("{about}: "), "this must be refused");
    }
    assert_eq!(refused.len(), WRONG.len());
    assert_eq!(count("modules") + count("withoutSubgroups"), list.len());
    let possible = asked
        .iter()
        .filter(|&&s| !s || count("withoutSubgroups") == 0);
    assert_eq!(count("pipelines") + count("tooLarge"), possible.count());
    assert!(count("pipelines") > 20, "hardly a pipeline was made");
}
