//! Serves a page on the loopback address and opens it in headless Chromium.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Returns the response to a page's request by path and body, or `None` for status 404.
pub type Answer = dyn Fn(&str, Vec<u8>) -> Option<Vec<u8>> + Send + Sync;

/// Returns true if the browser tests are skipped.
pub fn is_skipped() -> bool {
    let skipped = std::env::var_os("WGPU_DISTILL_SKIP_CHROMIUM").is_some();
    if skipped {
        crate::report::left_out("kernels in Chromium", "WGPU_DISTILL_SKIP_CHROMIUM");
    }
    skipped
}

/// Ends the browser and removes its profile when dropped.
struct Browser {
    child: Child,
    profile: PathBuf,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

fn start(address: &str) -> Browser {
    static VISITS: AtomicU32 = AtomicU32::new(0);
    let visit = VISITS.fetch_add(1, Relaxed);
    let profile = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("chromium-{}-{visit}", std::process::id()));
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
            return Browser { child, profile };
        }
    }
    panic!(
        "none of {names:?} could be started; install Chromium, name it by WGPU_DISTILL_CHROMIUM, or set WGPU_DISTILL_SKIP_CHROMIUM=1"
    )
}

/// The type of a response. Browsers run modules only as JavaScript, and compile WebAssembly while it loads only by its own type.
fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "js")) => "text/javascript",
        Some((_, "wasm")) => "application/wasm",
        _ => "application/octet-stream",
    }
}

/// Handles one request: the page, the result, which is sent to the test, or a response of `answer`.
fn serve(
    stream: TcpStream,
    page: &str,
    answer: &Answer,
    result: &Sender<Value>,
) -> std::io::Result<()> {
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
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    let (status, kind, body) = match path {
        "/" => ("200 OK", "text/html", page.as_bytes().to_vec()),
        "/result" => {
            let value =
                serde_json::from_slice(&body).unwrap_or_else(|e| json!({"failure": e.to_string()}));
            let _ = result.send(value);
            ("200 OK", "text/plain", Vec::new())
        }
        _ => match answer(path, body) {
            Some(bytes) => ("200 OK", kind(path), bytes),
            None => ("404 Not Found", "text/plain", Vec::new()),
        },
    };
    let size = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    );
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(&body)
}

/// Returns the JSON that the page posts to `/result`.
///
/// Fails if that takes longer than `patience`, if the browser ends before, or if the page reports a failure.
pub fn visit(page: &'static str, answer: Arc<Answer>, patience: Duration) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/", listener.local_addr().expect("bound"));
    let (sender, results) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, sender) = (answer.clone(), sender.clone());
            // Browsers open connections in advance, so each connection has its own thread.
            std::thread::spawn(move || serve(stream, page, &*answer, &sender));
        }
    });
    let mut browser = start(&address);
    let started = Instant::now();
    let result = loop {
        match results.recv_timeout(Duration::from_secs(1)) {
            Err(RecvTimeoutError::Timeout) if started.elapsed() < patience => {}
            done => break done,
        }
        if let Ok(Some(status)) = browser.child.try_wait() {
            panic!("the browser ended before the page reported: {status}");
        }
    };
    drop(browser);
    let result = result.expect("the page reports in time");
    assert_eq!(result["failure"], Value::Null, "{result}");
    result
}

/// Fails if the browser has no subgroups, unless WGPU_DISTILL_SKIP_SUBGROUPS is set.
pub fn subgroups(are_there: bool) {
    if std::env::var_os("WGPU_DISTILL_SKIP_SUBGROUPS").is_some() {
        return;
    }
    assert!(
        are_there,
        "this browser has no subgroups: set WGPU_DISTILL_SKIP_SUBGROUPS=1 to go without"
    );
}

pub fn count(result: &Value, name: &str) -> usize {
    result[name].as_u64().expect("a count") as usize
}

pub fn list<'a>(result: &'a Value, name: &str) -> Vec<&'a str> {
    let entries = result[name].as_array().expect("a list");
    entries.iter().filter_map(Value::as_str).collect()
}
