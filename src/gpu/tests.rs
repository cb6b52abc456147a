//! Injects rare device faults (`faults.rs`): each gives an error without panic or hang, and the next call works.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::buffers::{GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use super::device::Gpu;
use super::faults::{Fault, buffers_of, with};
use crate::{
    Batch, Config, Decision, Distillation, Error, GradWrite, GradientMut, Outputs, OutputsMut,
    Progress, Result, RowResult, Scope, Storage,
};

const HALFWAY: Progress = Progress { step: 1, total: 2 };
const CLASSES: usize = 5;
/// Longer than any call here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A separate device, with the errors that its handler received.
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

/// Runs `work` on a thread; fails if it hangs or panics.
fn in_time<T: Send + 'static>(about: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{about}: hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{about}: panics"),
    }
}

/// A call's results as text, to compare with those of the same call.
fn words<T: std::fmt::Debug>(result: Result<T>) -> Result<String> {
    result.map(|done| format!("{done:?}"))
}

type Call = (&'static str, fn(&Gpu) -> Result<String>);

/// Adds the gradient to memory with gaps between the rows. After an error the memory must be as before.
fn run_into(gpu: &Gpu) -> Result<String> {
    let config = Config {
        grad_write: GradWrite::Accumulate,
        ..Config::default()
    };
    let before = [0.5f32; 3 * (CLASSES + 2)];
    let (mut gradient, mut rows) = (before, [RowResult::default(); 3]);
    let outputs = OutputsMut {
        rows: Some(&mut rows),
        gradient: Some(GradientMut::new(&mut gradient, CLASSES).with_row_stride(CLASSES + 2)),
        metrics: None,
    };
    let done = gpu.run_into(&config, HALFWAY, &batch(), outputs);
    if done.is_err() {
        assert_eq!((gradient, rows), (before, [RowResult::default(); 3]));
    }
    words(done.map(|summary| (summary, rows, gradient)))
}

/// The calls that wait for results.
const CALLS: [Call; 7] = [
    ("run", |gpu| words(run(gpu))),
    ("run_async", |gpu| words(run_async(gpu))),
    ("run_into", run_into),
    ("softmax", |gpu| {
        words(gpu.softmax(&batch().student_logits, 3, 1.0))
    }),
    ("observe", |gpu| {
        words(gpu.observe(&Config::default(), &batch()))
    }),
    ("decide", |gpu| {
        let stats = crate::cpu::Cpu::new().observe(&Config::default(), &batch())?;
        words(gpu.decide(&Config::default(), HALFWAY, &stats, CLASSES))
    }),
    ("apply", |gpu| {
        let decisions = [Decision::default(); 3];
        words(gpu.apply(&Config::default(), &batch(), &decisions))
    }),
];

/// `encode` with every output. The encoder is submitted after an error too.
fn encode(gpu: &Gpu, config: &Config) -> Result<String> {
    let device = gpu.device();
    let buffer = || {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("caller"),
            size: 256,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    };
    let buffers = [(); 6].map(|()| buffer());
    let [student, teacher, labels, gradient, results, summary] = &buffers;
    let on = |buffer| GpuLogits::new(buffer, Storage::F32, CLASSES);
    let at = |buffer| GpuSlice { buffer, offset: 0 };
    let batch = GpuBatch {
        rows: 3,
        student_logits: on(student),
        teacher_logits: on(teacher),
        labels: at(labels).into(),
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let outputs = GpuOutputs {
        summary: Some(at(summary)),
        row_results: Some(at(results)),
        gradient: Some(on(gradient)),
        row_metrics: None,
    };
    let mut encoder = device.create_command_encoder(&Default::default());
    let encoded = gpu.encode(&mut encoder, config, HALFWAY, &batch, &outputs, None);
    gpu.queue().submit([encoder.finish()]);
    words(encoded)
}

fn encode_batch_scope(gpu: &Gpu) -> Result<String> {
    let config = Config {
        scope: Scope::Batch,
        ..Config::default()
    };
    encode(gpu, &config)
}

const ENCODES: [Call; 2] = [
    ("encode", |gpu| encode(gpu, &Config::default())),
    ("encode, batch scope", encode_batch_scope),
];

/// If the driver loses the device during the wait, wgpu calls no map callback and panics.
#[test]
fn a_wait_that_panics_or_errs_is_a_lost_device() {
    let Some(bench) = Bench::new() else { return };
    for (fault, words) in [
        (Fault::WaitPanics, "the driver lost the device, for a test"),
        (Fault::WaitErrs, "timed out"),
    ] {
        for (about, call) in CALLS {
            let about = format!("{about}, {fault:?}");
            let before = call(&bench.gpu);
            assert!(before.is_ok(), "{before:?}");
            let gpu = bench.gpu.clone();
            let (result, happened) = in_time(&about, move || with(fault, || call(&gpu)));
            assert!(happened, "{about}");
            match result {
                Err(Error::DeviceLost(reason)) => assert!(reason.contains(words), "{reason}"),
                other => panic!("{about}: {other:?}"),
            }
            // Only the wait failed; the device still works.
            assert_eq!(call(&bench.gpu), before, "after {about}");
        }
    }
    bench.is_silent("waits");
}

/// If the system has no thread, the caller waits itself and gets the same results.
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

/// Each buffer of each call in turn has no memory. An error names the buffer, and the next call gives the same results.
/// Neither the device's handler nor an error scope receives the error.
#[test]
fn no_memory_for_any_buffer_is_an_error() {
    let Some(bench) = Bench::new() else { return };
    let device = bench.gpu.device();
    let mut all = std::collections::BTreeSet::new();
    for (about, call) in CALLS.into_iter().chain(ENCODES) {
        let (before, made) = buffers_of(|| call(&bench.gpu));
        assert!(before.is_ok(), "{about}: {before:?}");
        for (i, name) in made.iter().enumerate() {
            let same = made[..i].iter().filter(|other| *other == name).count();
            let about = format!("{about}, {name} {same}");
            let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let (result, happened) = with(Fault::NoMemory(name, same), || call(&bench.gpu));
            let heard = pollster::block_on(scope.pop());
            assert!(happened, "{about}");
            match result {
                Err(Error::OutOfMemory(reason)) => assert!(reason.contains(name), "{reason}"),
                other => panic!("{about}: {other:?}"),
            }
            assert!(heard.is_none(), "{about}: {heard:?}");
            bench.is_silent(&about);
            assert_eq!(call(&bench.gpu), before, "after {about}");
        }
        all.extend(made);
    }
    // A buffer that is not created by `memory::buffer` would be missing here.
    for name in [
        "student_logits",
        "teacher_logits",
        "labels",
        "gradient",
        "row_results",
        "summary",
        "row_stats",
        "segment_stats",
        "sweep_sums",
        "placeholder",
        "decisions",
        "stats_summary",
        "partials",
        "params",
        "readback",
    ] {
        assert!(all.contains(name), "no call makes `{name}`: {all:?}");
    }
}

/// A failed compilation is an error of the call, and the next call compiles again. The device's error handler does not receive it.
#[test]
fn kernels_that_cannot_be_compiled_are_tried_again() {
    let Some(bench) = Bench::new() else { return };
    for (about, call) in CALLS.into_iter().chain(ENCODES) {
        // A context without compiled kernels.
        let fresh = || Gpu::new(bench.gpu.device(), bench.gpu.queue());
        let gpu = fresh();
        let (result, happened) = with(Fault::NoPipeline, || call(&gpu));
        assert!(happened, "{about}");
        match result {
            Err(Error::Gpu { doing, .. }) => assert_eq!(doing, "the compilation of a kernel"),
            other => panic!("{about}: {other:?}"),
        }
        bench.is_silent(about);
        assert_eq!(call(&gpu), call(&fresh()), "{about}");
    }
}

/// Work that the device drops silently is an error, because the results are never written.
#[test]
fn work_that_was_not_done_is_noticed() {
    let Some(bench) = Bench::new() else { return };
    for (about, call) in &CALLS[..3] {
        let before = call(&bench.gpu);
        let (result, happened) = with(Fault::WorkIsLost, || call(&bench.gpu));
        assert!(happened, "{about}");
        match result {
            Err(Error::Gpu { reason, .. }) => assert!(reason.contains("0 of 3 rows"), "{reason}"),
            other => panic!("{about}: {other:?}"),
        }
        assert_eq!(call(&bench.gpu), before, "after {about}");
    }
    bench.is_silent("lost work");
}

/// If an adapter gives no device, the next one is tried.
#[test]
fn the_next_adapter_is_tried() {
    let open = async |gives: &Result<u32>| gives.clone();
    let refusal = |adapter: &str| {
        Err(Error::NoDevice {
            adapter: adapter.to_owned(),
            reason: "for a test".to_owned(),
        })
    };
    let first =
        |found: &[Result<u32>]| pollster::block_on(super::adapters::first_that_opens(found, open));
    assert_eq!(first(&[]), None);
    assert_eq!(first(&[Ok(1), Ok(2)]), Some(Ok(1)));
    let some = [refusal("a"), refusal("b"), Ok(3), Ok(4)];
    assert_eq!(first(&some), Some(Ok(3)));
    assert_eq!(first(&some[..2]), Some(refusal("a")));
}
