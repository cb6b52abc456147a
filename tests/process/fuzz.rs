//! Problems from random bytes. Each gives the reference's result or the reference's error, never a panic.
//!
//! A normal run takes ten seconds and uses the same inputs every time. `WGPU_DISTILL_DEPTH=long` takes 42 minutes, 31 of them for whole
//! problems, with a new seed. `WGPU_DISTILL_FUZZ_MINUTES` sets another time, `WGPU_DISTILL_FUZZ_SEED` a seed, `WGPU_DISTILL_FUZZ_ONLY` one
//! target.
//!
//! A failure names seed and input. `WGPU_DISTILL_FUZZ_FROM=INPUT` starts at that input.
//! Inputs that once failed are in `tests/process/fuzz/regressions.txt`.

use crate::buffers;
mod bytes;
mod encode;
mod plans;
mod problem;
mod tolerance;
mod whole;
mod windows;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cases::inputs::Random;
use crate::cases::is_long;
use crate::report;

/// Returns true if the input gives a result, false if it is refused.
type Target = fn(&[u8]) -> Result<bool, String>;

/// Name, function and share of the time.
const TARGETS: [(&str, Target, f64); 3] = [
    ("whole", whole::check, 0.75),
    ("plans", plans::check, 0.125),
    ("encode", encode::check, 0.125),
];

/// More than a hundred times the duration of the slowest input.
const HANGS_AFTER: Duration = Duration::from_secs(60);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is `{text}`, no whole number")),
    )
}

/// Input `n` of a seed. A zero byte selects the usual value, so some inputs have more zeros.
fn input(seed: u64, n: u64) -> Vec<u8> {
    let mut random = Random::new(seed ^ n.wrapping_mul(0xd134_2543_de82_ef95));
    let length = 40 + random.next() as usize % 400;
    let usual = random.next().is_multiple_of(4);
    let mut bytes = Vec::with_capacity(length + 4);
    while bytes.len() < length {
        let word = random.next().to_le_bytes();
        match usual && random.next().is_multiple_of(3) {
            true => bytes.extend([0; 4]),
            false => bytes.extend(word),
        }
    }
    bytes
}

fn try_one(name: &str, target: Target, bytes: &[u8], about: &str) -> bool {
    let done = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    let why = match done {
        Ok(Ok(answered)) => return answered,
        Ok(Err(why)) => why,
        Err(_) => "it panicked".to_owned(),
    };
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    panic!("{name}, {about}: {why}\nfor tests/process/fuzz/regressions.txt: {name} {hex}");
}

/// Ends the process with a message if one input of `run` takes too long. A test cannot be stopped in another way.
fn watch(name: &'static str, seed: u64, at: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        let mut last = u64::MAX;
        // `run` is the only other owner, and has ended when one owner is left.
        while Arc::strong_count(&at) > 1 {
            let now = at.load(Relaxed);
            if now == last {
                eprintln!("{name}, seed {seed}, input {now}: no end within {HANGS_AFTER:?}");
                std::process::abort();
            }
            last = now;
            std::thread::sleep(HANGS_AFTER);
        }
    });
}

fn seconds(share: f64) -> Duration {
    let long = is_long();
    let whole = match number("WGPU_DISTILL_FUZZ_MINUTES") {
        Some(minutes) => 60.0 * minutes as f64,
        None if long => 42.0 * 60.0,
        None => 10.0,
    };
    Duration::from_secs_f64(whole * share)
}

fn run(name: &'static str, target: Target, share: f64) {
    let long = is_long();
    let clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |t| t.as_secs())
    };
    let seed = number("WGPU_DISTILL_FUZZ_SEED").unwrap_or_else(|| if long { clock() } else { 1 });
    let first = number("WGPU_DISTILL_FUZZ_FROM").unwrap_or(0);
    let (start, time) = (Instant::now(), seconds(share));
    println!("fuzz: {name}, seed {seed}, from input {first}");
    let (mut n, mut answered) = (first, 0u64);
    let at = Arc::new(AtomicU64::new(n));
    watch(name, seed, at.clone());
    while start.elapsed() < time {
        let about = format!("seed {seed}, input {n}");
        answered += u64::from(try_one(name, target, &input(seed, n), &about));
        n += 1;
        at.store(n, Relaxed);
    }
    let count = n - first;
    report::ran(&format!(
        "fuzz: {name}, {count} inputs of seed {seed} passed, {answered} of them answered, the others refused, in {:.0} s",
        start.elapsed().as_secs_f64()
    ));
    // If nearly all inputs were refused, or none, one side would not be tested.
    assert!(
        answered > count / 10 && answered < count,
        "{answered} of {count} answered"
    );
}

/// In sequence on one core.
#[test]
fn any_bytes_are_answered_or_refused() {
    let _turn = crate::turn();
    let only = std::env::var("WGPU_DISTILL_FUZZ_ONLY").ok();
    for (name, target, share) in TARGETS {
        if name == "encode" && buffers::gpu().is_none() {
            report::left_out("fuzzing of encode", "WGPU_DISTILL_SKIP_GPU");
            continue;
        }
        match &only {
            None => run(name, target, share),
            Some(wanted) if wanted == name => run(name, target, 1.0),
            Some(_) => {}
        }
    }
}

#[test]
fn what_failed_once_passes() {
    let _turn = crate::turn();
    let mut count = 0;
    for line in include_str!("fuzz/regressions.txt").lines() {
        let Some((name, hex)) = line.split_once(' ').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let (_, target, _) = TARGETS
            .into_iter()
            .find(|(n, ..)| *n == name)
            .expect("a target");
        let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex");
        let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
        try_one(name, target, &bytes, line);
        count += 1;
    }
    report::ran(&format!("fuzz: {count} inputs that failed once pass"));
}
