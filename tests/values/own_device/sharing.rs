//! Encoders, workspaces and contexts shared between threads and futures, and two independent devices.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use wgpu_distill::gpu::{GpuBatch, GpuLogits, GpuOutputs, Workspace};
use wgpu_distill::{
    Batch, Config, Distillation, Error, Outputs, Progress, Reduction, Result, RowResult, Scope,
    Selection, Similarity, Storage, reference, wgpu,
};

use super::{App, ROUNDING, at, check_rows, check_summary, labels, noise};

/// Several encodings with different progress, selection and reduction share one encoder, submission and workspace.
#[test]
fn encodings_share_an_encoder_and_a_workspace() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    // More rows than a workgroup counts by itself, so that the row count in the workspace is reused too.
    let (rows, classes) = (1500, 12);
    let (student, teacher) = (noise(rows * classes, 8), noise(rows * classes, 9));
    let labels = labels(rows, classes);
    let base = Config::default();
    let cases = [
        (Progress::new(0, 10), base),
        (
            Progress::new(10, 10),
            Config {
                ignore_index: 7,
                ..base
            },
        ),
        (
            Progress::new(3, 10),
            Config {
                scope: Scope::Batch,
                selection: Selection::Kdr,
                ..base
            },
        ),
        (
            Progress::new(5, 10),
            Config {
                similarity: Similarity::JensenShannon,
                ..base
            },
        ),
        (
            Progress::new(7, 10),
            Config {
                scope: Scope::Given(0.25),
                reduction: Reduction::Sum,
                ..base
            },
        ),
        (
            Progress::new(3, 10),
            Config {
                scope: Scope::Batch,
                ignore_index: 7,
                ..base
            },
        ),
        (
            Progress::new(9, 10),
            Config {
                label_smoothing: 0.125,
                student_temperature: 4.0,
                ..base
            },
        ),
    ];
    let [s, t] = [&student, &teacher].map(|v| app.buffer(bytemuck::cast_slice(v)));
    // With another ignore_index, -100 is a label out of range, whose loss would be NaN. 0 replaces it.
    let only_classes: Vec<i32> = labels.iter().map(|l| (*l).max(0)).collect();
    let l = [&labels, &only_classes].map(|v| app.buffer(bytemuck::cast_slice(v)));
    let matrix = (4 * rows * classes) as u64;
    let gradients = app.buffer(&vec![0; matrix as usize * cases.len()]);
    let results = app.buffer(&vec![0; 16 * rows * cases.len()]);
    let summaries = app.buffer(&vec![0; 256 * cases.len()]);
    let work = |n: usize| {
        let logits = |buffer| GpuLogits::new(buffer, Storage::F32, classes);
        let batch = GpuBatch {
            rows,
            student_logits: logits(&s),
            teacher_logits: logits(&t),
            labels: at(&l[usize::from(cases[n].1.ignore_index == 7)], 0).into(),
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let outputs = GpuOutputs {
            summary: Some(at(&summaries, 256 * n as u64)),
            row_results: Some(at(&results, (16 * rows * n) as u64)),
            gradient: Some(GpuLogits {
                offset: matrix * n as u64,
                ..logits(&gradients)
            }),
            row_metrics: None,
        };
        (batch, outputs)
    };
    let plans = (0..cases.len()).map(|n| {
        let (batch, outputs) = work(n);
        gpu.plan(&cases[n].1, &batch, &outputs).expect("a plan")
    });
    let plans: Vec<_> = plans.collect();
    let largest = plans
        .iter()
        .max_by_key(|p| p.workspace_bytes())
        .expect("some");
    let workspace = Workspace::new(&app.device, largest);
    assert!(plans.iter().all(|p| workspace.fits(p)));

    let mut encoder = app.encoder();
    for (n, (progress, config)) in cases.iter().enumerate() {
        let (batch, outputs) = work(n);
        let shared = Some(&workspace);
        gpu.encode(&mut encoder, config, *progress, &batch, &outputs, shared)
            .unwrap_or_else(|e| panic!("{n}: {e}"));
    }
    let whole = |buffer: &wgpu::Buffer| buffer.size();
    let parts = [&gradients, &results, &summaries].map(|b| (b, 0, whole(b)));
    let [gradients, results, summaries] = app.finish(encoder, &parts).try_into().expect("three");
    for (n, (progress, config)) in cases.iter().enumerate() {
        let about = format!("encoding {n}");
        let labels = [&labels, &only_classes][usize::from(config.ignore_index == 7)];
        let host = Batch::new(&student, &teacher, labels, classes);
        let want = reference::distill(config, *progress, &host).expect("a valid batch");
        let gradient: Vec<f32> =
            bytemuck::pod_collect_to_vec(&gradients[n * matrix as usize..][..matrix as usize]);
        let rows: Vec<RowResult> =
            bytemuck::pod_collect_to_vec(&results[16 * rows * n..][..16 * rows]);
        let w = match config.reduction {
            Reduction::Sum => 1.0,
            _ => 1.0 / f64::from(want.summary.valid_rows),
        };
        check_rows(&about, &want, &rows, &gradient, 1.0, ROUNDING * w);
        let summary = bytemuck::pod_read_unaligned(
            &summaries[256 * n..][..size_of::<wgpu_distill::Summary>()],
        );
        check_summary(&about, &want.summary, &summary);
    }
    app.is_silent();
}

/// A batch in host memory and its progress.
struct Work {
    student: Vec<f32>,
    teacher: Vec<f32>,
    labels: Vec<i32>,
    classes: usize,
    progress: Progress,
}

impl Work {
    fn new(n: usize) -> Self {
        let (rows, classes) = (11 + n, 5 + 37 * n);
        Self {
            student: noise(rows * classes, 100 + n as u32),
            teacher: noise(rows * classes, 200 + n as u32),
            labels: labels(rows, classes),
            classes,
            progress: Progress::new(n as u64, 8),
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch::new(&self.student, &self.teacher, &self.labels, self.classes)
    }

    fn check(&self, about: &str, got: &Result<Distillation>) {
        let config = Config::default();
        let want = reference::distill(&config, self.progress, &self.batch()).expect("valid");
        let got = got.as_ref().unwrap_or_else(|e| panic!("{about}: {e}"));
        check_summary(about, &want.summary, &got.summary);
        let gradient = got.clone().into_grad_student_logits();
        let w = 1.0 / f64::from(want.summary.valid_rows);
        check_rows(about, &want, &got.rows, &gradient, 1.0, ROUNDING * w);
    }
}

/// Each async single step gives the bits of its blocking form.
#[test]
fn awaited_steps_are_the_steps() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    let work = Work::new(3);
    let batch = work.batch();
    let (config, rows) = (Config::default(), work.labels.len());
    let awaited = pollster::block_on(async {
        let p = gpu.softmax_async(&batch.student_logits, rows, 2.0).await?;
        let stats = gpu.observe_async(&config, &batch).await?;
        let decided = gpu.decide_async(&config, work.progress, &stats, work.classes);
        let decisions = decided.await?;
        let gradient = gpu.apply_async(&config, &batch, &decisions).await?;
        Ok((p, stats, decisions, gradient))
    });
    let (p, stats, decisions, gradient) = awaited.unwrap_or_else(|e: Error| panic!("{e}"));
    assert_eq!(Ok(p), gpu.softmax(&batch.student_logits, rows, 2.0));
    assert_eq!(Ok(&stats), gpu.observe(&config, &batch).as_ref());
    let decided = gpu.decide(&config, work.progress, &stats, work.classes);
    assert_eq!(Ok(&decisions), decided.as_ref());
    assert_eq!(gradient.len(), work.student.len());
    assert_eq!(Ok(gradient), gpu.apply(&config, &batch, &decisions));
}

/// Two contexts on two devices at the same time. Each has its own pipelines and results, and both give the same bits.
#[test]
fn two_devices_do_not_mix() {
    let apps = [(); 2].map(|()| App::new(wgpu::Limits::default()));
    let [Some(first), Some(second)] = apps else {
        return;
    };
    let results = std::thread::scope(|scope| {
        let run = |app: &App| -> Vec<Result<Distillation>> {
            let gpu = app.gpu();
            let config = Config::default();
            let run = |work: &Work| gpu.run(&config, work.progress, &work.batch(), Outputs::ALL);
            (0..8).map(|n| run(&Work::new(n))).collect()
        };
        let threads = [&first, &second].map(|app| scope.spawn(move || run(app)));
        threads.map(|t| t.join().expect("no panic"))
    });
    let [one, other] = results;
    for (n, (one, other)) in one.iter().zip(&other).enumerate() {
        Work::new(n).check(&format!("work {n}"), one);
        assert_eq!(one, other, "work {n} on two devices");
    }
    first.is_silent();
    second.is_silent();
}

/// Polls all futures in turn until all are complete.
async fn join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut open: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = open.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, done) in open.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

fn is_send<T: Send>(value: T) -> T {
    value
}

/// One future, several futures on one thread, and calls from several threads, all on one context. Futures can move between threads.
#[test]
fn futures_and_threads_share_a_context() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    let config = Config::default();
    let works: Vec<_> = (0..6).map(Work::new).collect();
    let batches: Vec<_> = works.iter().map(Work::batch).collect();
    let future = |n: usize| {
        let (gpu, config) = (&gpu, &config);
        is_send(gpu.run_async(config, works[n].progress, &batches[n], Outputs::ALL))
    };
    let alone = pollster::block_on(future(0));
    works[0].check("one future", &alone);
    let joined = pollster::block_on(join((0..works.len()).map(future).collect()));
    for (n, (work, got)) in works.iter().zip(&joined).enumerate() {
        work.check(&format!("future {n}"), got);
    }
    assert_eq!(alone, joined[0], "the same bits with other work under way");
    std::thread::scope(|scope| {
        for (n, work) in works.iter().enumerate() {
            let (gpu, config, joined) = (gpu.clone(), &config, &joined);
            scope.spawn(move || {
                let got = gpu.run(config, work.progress, &work.batch(), Outputs::ALL);
                assert_eq!(got, joined[n], "thread {n}");
            });
        }
    });
    app.is_silent();
}
