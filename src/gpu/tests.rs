//! What goes wrong once in a long while, made to go wrong (`faults.rs`): an error, no panic, no hang, and the next call works.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Gpu;
use super::faults::{Fault, with};
use crate::{Batch, Config, Distillation, Error, Outputs, Progress, Result};

const HALFWAY: Progress = Progress { step: 1, total: 2 };
const CLASSES: usize = 5;
/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A device of its own, with what its error handler heard.
struct Bench {
    gpu: Gpu,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Option<Self> {
        if std::env::var_os("WGPU_DISTILL_SKIP_GPU").is_some() {
            println!("skipped by WGPU_DISTILL_SKIP_GPU");
            return None;
        }
        let name = std::env::var("WGPU_DISTILL_ADAPTER").unwrap_or_else(|_| "llvmpipe".to_owned());
        let gpu = pollster::block_on(Gpu::named(&name));
        let gpu = gpu.unwrap_or_else(|e| panic!("{e}; set WGPU_DISTILL_SKIP_GPU to go without"));
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let sink = heard.clone();
        gpu.device()
            .on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
                sink.lock().unwrap().push(error.to_string());
            }));
        Some(Self { gpu, heard })
    }

    fn is_silent(&self, about: &str) {
        let heard = self.heard.lock().unwrap();
        assert!(heard.is_empty(), "{about}: uncaptured errors: {heard:?}");
    }
}

const STUDENT: [f32; 15] = [
    0.5, -1.0, 2.0, 0.0, 1.5, -0.5, 3.0, 0.25, -2.0, 1.0, 0.75, 0.125, -1.5, 2.5, 0.0,
];
const LABELS: [i32; 3] = [0, 4, -100];

fn batch() -> Batch<'static> {
    const TEACHER: [f32; 15] = [1.0; 15];
    Batch::new(&STUDENT, &TEACHER, &LABELS, CLASSES)
}

fn run(gpu: &Gpu) -> Result<Distillation> {
    gpu.run(&Config::default(), HALFWAY, &batch(), Outputs::ALL)
}

fn run_async(gpu: &Gpu) -> Result<Distillation> {
    let config = Config::default();
    pollster::block_on(gpu.run_async(&config, HALFWAY, &batch(), Outputs::ALL))
}

/// Runs something that might hang, and fails if it does or panics.
fn in_time<T: Send + 'static>(about: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{about}: hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{about}: panics"),
    }
}

type Call = (&'static str, fn(&Gpu) -> Result<Distillation>);
const CALLS: [Call; 2] = [("run", run), ("run_async", run_async)];

/// wgpu calls no map callback, and panics, where the driver says during the wait that the device is lost.
#[test]
fn a_wait_that_panics_or_errs_is_a_lost_device() {
    let Some(bench) = Bench::new() else { return };
    let before = run(&bench.gpu);
    assert!(before.is_ok(), "{before:?}");
    for (fault, words) in [
        (Fault::WaitPanics, "the driver lost the device, for a test"),
        (Fault::WaitErrs, "timed out"),
    ] {
        for (about, call) in CALLS {
            let about = format!("{about}, {fault:?}");
            let gpu = bench.gpu.clone();
            let (result, happened) = in_time(&about, move || with(fault, || call(&gpu)));
            assert!(happened, "{about}");
            match result {
                Err(Error::DeviceLost(reason)) => assert!(reason.contains(words), "{reason}"),
                other => panic!("{about}: {other:?}"),
            }
            // The device was not lost in truth.
            assert_eq!(run(&bench.gpu), before, "after {about}");
        }
    }
    bench.is_silent("waits");
}

/// Without a thread to wait on, whoever asks waits: the same results, later.
#[test]
fn no_thread_is_no_reason_to_panic() {
    let Some(bench) = Bench::new() else { return };
    let before = run(&bench.gpu);
    let gpu = bench.gpu.clone();
    let (result, happened) = in_time("no thread", move || {
        with(Fault::NoThread, || run_async(&gpu))
    });
    assert!(happened);
    assert_eq!(result, before);
    bench.is_silent("threads");
}
