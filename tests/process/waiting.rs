//! Threads: a call on the CPU path never runs other work of the caller while it waits, and the number of threads does not change results.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{Batch, Config, Engine, Outputs, Progress, Scope};

use crate::{cases, exact, turn};
use cases::inputs::{self, Kind};

/// Set in a child process to the kind of call.
const WAY: &str = "WGPU_DISTILL_TEST_WAY";
/// The last line of a child process's output.
const DONE: &str = "all items are done";
const LIMIT: Duration = Duration::from_secs(30);

/// Items of a parallel loop of the caller. Every second item holds a lock during its call.
fn items(way: &str) {
    let (rows, classes) = (64, 4000);
    let (student, teacher) = inputs::logits(Kind::Normal, rows, classes, classes, 1);
    let labels: Vec<i32> = (0..rows as i32).collect();
    let engine = Engine::cpu();
    let lock = Mutex::new(());
    let item = |i: usize| {
        if i % 2 == 1 {
            std::thread::sleep(Duration::from_micros(300));
            return;
        }
        let _held = lock.lock().expect("no item panics");
        let batch = Batch::new(&student, &teacher, &labels, classes);
        let config = Config {
            scope: [Scope::Row, Scope::Batch][i / 2 % 2],
            ..Config::default()
        };
        let done = engine.run(&config, Progress::new(1, 2), &batch, Outputs::ALL);
        assert!(done.expect("valid").summary.loss > 0.0);
    };
    fn halves(range: std::ops::Range<usize>, item: &(impl Fn(usize) + Sync)) {
        if range.len() == 1 {
            return item(range.start);
        }
        let middle = range.start + range.len() / 2;
        rayon::join(
            || halves(range.start..middle, item),
            || halves(middle..range.end, item),
        );
    }
    match way {
        "par_iter" => (0..256).into_par_iter().for_each(item),
        "join" => halves(0..256, &item),
        "scope" => rayon::scope(|scope| {
            let item = &item;
            (0..256).for_each(|i| scope.spawn(move |_| item(i)));
        }),
        "pool" => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
            let pool = pool.expect("a pool");
            pool.install(|| (0..256).into_par_iter().for_each(item));
        }
        other => panic!("no way {other}"),
    }
}

/// The caller's threads belong to rayon, which runs other items while a thread waits in rayon.
#[test]
fn calls_from_a_parallel_loop_may_hold_a_lock() {
    if let Ok(way) = std::env::var(WAY) {
        items(&way);
        println!("{DONE}");
        return;
    }
    let _turn = turn();
    let program = std::env::current_exe().expect("the test's own path");
    for way in ["par_iter", "join", "scope", "pool"] {
        for run in 0..6 {
            let mut child = Command::new(&program)
                .args(["--nocapture", "--exact"])
                .arg(exact(
                    module_path!(),
                    "calls_from_a_parallel_loop_may_hold_a_lock",
                ))
                .env(WAY, way)
                .env("RAYON_NUM_THREADS", "4")
                .stdout(Stdio::piped())
                .spawn()
                .expect("the test starts itself");
            let start = Instant::now();
            let status = loop {
                if let Some(status) = child.try_wait().expect("the child can be asked") {
                    break status;
                }
                if start.elapsed() > LIMIT {
                    child.kill().expect("the child can be ended");
                    child.wait().expect("the child ends");
                    panic!("{way}, run {run}: no end after {LIMIT:?}");
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            assert!(status.success(), "{way}, run {run}: {status}");
            let mut said = String::new();
            let stdout = child.stdout.as_mut().expect("it is piped");
            stdout.read_to_string(&mut said).expect("UTF-8");
            assert!(said.contains(DONE), "{way}, run {run}: no item ran: {said}");
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let _turn = turn();
    for (rows, classes) in [(1, 7), (37, 1000), (3000, 33), (9, 20_000)] {
        let (student, teacher) = inputs::logits(Kind::Peaked, rows, classes, classes, 2);
        let labels: Vec<i32> = (0..rows).map(|r| (r % classes) as i32).collect();
        let batch = Batch::new(&student, &teacher, &labels, classes);
        for scope in [Scope::Row, Scope::Batch] {
            let config = Config {
                scope,
                ..Config::default()
            };
            let run = |threads: usize| {
                let cpu = Cpu::new().with_threads(threads);
                let done = cpu.run(&config, Progress::new(1, 2), &batch, Outputs::ALL);
                let softmax = cpu.softmax(&batch.student_logits, rows, 2.0);
                let stats = cpu.observe(&config, &batch).expect("valid");
                (done.expect("valid"), softmax.expect("valid"), stats)
            };
            let one = run(1);
            for threads in [0, 2, 3, 8] {
                assert!(run(threads) == one, "{rows} x {classes}, {threads} threads");
            }
        }
    }
}

#[test]
fn the_number_of_threads_is_said() {
    let _turn = turn();
    let says = |threads: usize| Cpu::new().with_threads(threads).describe();
    assert!(
        says(0).ends_with("1 thread)") && says(1).ends_with("1 thread)"),
        "{}",
        says(0)
    );
    assert!(says(5).ends_with("5 threads)"), "{}", says(5));
}
