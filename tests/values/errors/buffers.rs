//! Refusals by `Gpu::plan` and `Gpu::encode` on buffers. The error handler of the test's device must receive nothing.

use std::sync::{Arc, Mutex};

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLabels, GpuLogits, GpuOutputs, GpuSlice};
use wgpu_distill::{
    ClassWeighting, Config, Divergence, Error, Progress, Result, Selection, Storage, wgpu,
};

use super::{HALFWAY, MOST_CLASSES, config_error, limit, overlap, refused, stride_too_small};

/// An application's device and the errors that its handler received.
pub struct Bench {
    pub gpu: Gpu,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    pub fn new(limits: Option<wgpu::Limits>) -> Option<Self> {
        let own = super::gpu()?;
        let name = own.device().adapter_info().name;
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let adapter = found.into_iter().find(|a| a.get_info().name == name);
        let adapter = adapter.expect("it was there before");
        let device = adapter.request_device(&wgpu::DeviceDescriptor {
            required_limits: limits.unwrap_or_default(),
            ..Default::default()
        });
        let (device, queue) = pollster::block_on(device).expect("a device");
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let sink = heard.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            sink.lock().unwrap().push(error.to_string());
        }));
        let gpu = Gpu::new(&device, &queue);
        Some(Self { gpu, heard })
    }

    pub fn buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Fails unless `plan` and `encode` refuse the call with this error, the encoder stays usable and wgpu reports no error.
    pub fn refuses(&self, about: &str, work: &Work<'_>, want: &Error) {
        let plan = self.gpu.plan(&work.config, &work.batch, &work.outputs);
        refused(&format!("{about}, plan"), plan, want);
        refused(&format!("{about}, encode"), self.encode(work), want);
        self.is_silent(about);
    }

    pub fn encode(&self, work: &Work<'_>) -> Result<()> {
        let mut encoder = self.encoder();
        let done = self.gpu.encode(
            &mut encoder,
            &work.config,
            HALFWAY,
            &work.batch,
            &work.outputs,
            None,
        );
        self.gpu.queue().submit([encoder.finish()]);
        done
    }

    pub fn encoder(&self) -> wgpu::CommandEncoder {
        let device = self.gpu.device();
        device.create_command_encoder(&Default::default())
    }

    pub fn take_heard(&self) -> impl Iterator<Item = String> {
        std::mem::take(&mut *self.heard.lock().unwrap()).into_iter()
    }

    pub fn is_silent(&self, about: &str) {
        let heard = self.heard.lock().unwrap();
        assert!(heard.is_empty(), "{about}: {heard:?}");
    }
}

/// Arguments of `encode`.
#[derive(Clone)]
pub struct Work<'a> {
    pub config: Config,
    pub batch: GpuBatch<'a>,
    pub outputs: GpuOutputs<'a>,
}

const ROWS: usize = 4;
const CLASSES: usize = 8;
/// Bytes of one matrix in f32.
const MATRIX: u64 = 128;

/// Buffers for a valid batch of 4 rows and 8 classes.
pub struct Right {
    pub student: wgpu::Buffer,
    pub teacher: wgpu::Buffer,
    pub labels: wgpu::Buffer,
    pub gradient: wgpu::Buffer,
    pub results: wgpu::Buffer,
    pub summary: wgpu::Buffer,
    /// A large buffer, for cases that must not fail for lack of space.
    pub large: wgpu::Buffer,
    /// A large buffer with a usage that does not allow storage bindings.
    pub unusable: wgpu::Buffer,
}

pub fn at(buffer: &wgpu::Buffer, offset: u64) -> GpuSlice<'_> {
    GpuSlice { buffer, offset }
}

impl Right {
    pub fn new(bench: &Bench) -> Self {
        let storage = |size| bench.buffer(size, wgpu::BufferUsages::STORAGE);
        Self {
            student: storage(MATRIX),
            teacher: storage(MATRIX),
            labels: storage(16),
            gradient: storage(MATRIX),
            results: storage(64),
            summary: storage(size_of::<wgpu_distill::Summary>() as u64),
            large: storage(1 << 16),
            unusable: bench.buffer(1 << 16, wgpu::BufferUsages::COPY_SRC),
        }
    }

    pub fn work(&self) -> Work<'_> {
        let logits = |buffer| GpuLogits::new(buffer, Storage::F32, CLASSES);
        Work {
            config: Config::default(),
            batch: GpuBatch {
                rows: ROWS,
                student_logits: logits(&self.student),
                teacher_logits: logits(&self.teacher),
                labels: at(&self.labels, 0).into(),
                soft_labels: None,
                row_weights: None,
                class_weights: None,
                teacher_ids: None,
            },
            outputs: GpuOutputs {
                summary: Some(at(&self.summary, 0)),
                row_results: Some(at(&self.results, 0)),
                gradient: Some(logits(&self.gradient)),
                row_metrics: None,
            },
        }
    }
}

fn too_small(name: &'static str, needed: u64, got: u64) -> Error {
    Error::BufferTooSmall { name, needed, got }
}

fn misaligned(name: &'static str, offset: u64, alignment: u64) -> Error {
    Error::BufferMisaligned {
        name,
        offset,
        alignment,
    }
}

/// Description, change to the call, and the error.
type Case = (&'static str, for<'a> fn(&'a Right, &mut Work<'a>), Error);

fn gradient<'a, 'b>(work: &'b mut Work<'a>) -> &'b mut GpuLogits<'a> {
    work.outputs.gradient.as_mut().expect("there is one")
}

/// Every matrix and list appears at least once, since each has its own size, alignment and name.
#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let strides = "the row stride, in elements,";
    let mismatch = |student, teacher| Error::ShapeMismatch { student, teacher };
    let zero = |name| Error::ZeroClasses { name };
    let (student, teacher, labels) = ("student_logits", "teacher_logits", "labels");
    let (grad, results, summary) = ("gradient", "row_results", "summary");
    let width = |got| Error::GradientShape { classes: CLASSES, got };
    vec![
        ("no classes", |_, w| w.batch.student_logits.classes = 0, zero(student)),
        ("no teacher classes", |_, w| w.batch.teacher_logits.classes = 0, zero(teacher)),
        ("no gradient classes", |_, w| gradient(w).classes = 0, zero(grad)),
        ("teacher has fewer", |_, w| w.batch.teacher_logits.classes = 7, mismatch(8, 7)),
        ("sampled tokens", |_, w| (w.config.divergence, w.config.selection) = (Divergence::K3 { clamp: 20.0 }, Selection::Tstr),
            Error::SampledTeacher { divergence: "k3:20".to_owned(), got: 8 }),
        ("student has fewer", |_, w| w.batch.student_logits.classes = 5, mismatch(5, 8)),
        ("gradient has fewer", |_, w| gradient(w).classes = 7, width(7)),
        ("gradient has more", |_, w| (gradient(w).classes, gradient(w).row_stride) = (9, 9), width(9)),
        ("rows overlap", |_, w| w.batch.student_logits.row_stride = 7, stride_too_small(student, 7, 8)),
        ("stride forgotten", |_, w| w.batch.teacher_logits.row_stride = 0, stride_too_small(teacher, 0, 8)),
        ("gradient rows overlap", |_, w| gradient(w).row_stride = 1, stride_too_small(grad, 1, 8)),
        ("stride as far as it goes", |_, w| w.batch.student_logits.row_stride = usize::MAX, limit(strides, u64::MAX, MOST_CLASSES)),
        ("gradient stride", |_, w| gradient(w).row_stride = usize::MAX / 2, limit(strides, u64::MAX / 2, MOST_CLASSES)),
        ("rows as far as they go", |_, w| w.batch.rows = usize::MAX, limit("the number of rows", u64::MAX, i32::MAX as u64)),
        ("one row too many", |_, w| w.batch.rows = 1 << 31, limit("the number of rows", 1 << 31, i32::MAX as u64)),
        ("both at their ends", |_, w| (w.batch.rows, w.batch.student_logits.row_stride) = (i32::MAX as usize, 1 << 28),
            too_small(student, ((i32::MAX as u64 - 1) * (1 << 28) + 8) * 4, MATRIX)),
        ("one row short", |_, w| w.batch.rows = 5, too_small(student, 160, MATRIX)),
        ("student's stride", |_, w| w.batch.student_logits.row_stride = 9, too_small(student, 140, MATRIX)),
        ("teacher's offset", |_, w| w.batch.teacher_logits.offset = 4, too_small(teacher, 132, MATRIX)),
        ("labels' offset", |_, w| w.batch.labels.slice.offset = 4, too_small(labels, 20, 16)),
        ("gradient's offset", |_, w| gradient(w).offset = 16, too_small(grad, 144, MATRIX)),
        ("results' offset", |_, w| w.outputs.row_results.as_mut().unwrap().offset = 16, too_small(results, 80, 64)),
        ("summary's offset", |_, w| w.outputs.summary.as_mut().unwrap().offset = 256, too_small(summary, 336, 80)),
        // 3 * 9 + 8 elements of 2 bytes are 70 bytes; a binding has whole words.
        ("an odd number of 16-bit elements", |r, w| {
            w.batch.student_logits = GpuLogits { buffer: &r.results, offset: 0, storage: Storage::F16, classes: 8, row_stride: 9 };
        }, too_small(student, 72, 64)),
        ("f32 between words", |r, w| w.batch.student_logits = GpuLogits { buffer: &r.large, offset: 2, ..w.batch.student_logits }, misaligned(student, 2, 4)),
        ("bf16 between elements", |r, w| w.batch.teacher_logits = GpuLogits { buffer: &r.large, offset: 3, storage: Storage::Bf16, ..w.batch.teacher_logits }, misaligned(teacher, 3, 2)),
        ("labels between words", |r, w| w.batch.labels = at(&r.large, 6).into(), misaligned(labels, 6, 4)),
        ("labels of 64 bits between them", |r, w| w.batch.labels = GpuLabels::i64(at(&r.large, 4)), misaligned(labels, 4, 8)),
        ("gradient between words", |r, w| *gradient(w) = GpuLogits { buffer: &r.large, offset: 1, ..*gradient(w) }, misaligned(grad, 1, 4)),
        ("results between rows", |r, w| w.outputs.row_results = Some(at(&r.large, 8)), misaligned(results, 8, 16)),
        ("summary where no binding starts", |r, w| w.outputs.summary = Some(at(&r.large, 128)), misaligned(summary, 128, 256)),
        ("gradient on the teacher", |r, w| gradient(w).buffer = &r.teacher, overlap(grad, teacher)),
        ("in place, but shifted", |r, w| {
            w.batch.student_logits.buffer = &r.large;
            *gradient(w) = GpuLogits { buffer: &r.large, offset: 32, ..*gradient(w) };
        }, overlap(grad, student)),
        ("in place, but narrower", |r, w| *gradient(w) = GpuLogits { buffer: &r.student, storage: Storage::Bf16, ..*gradient(w) }, overlap(grad, student)),
        ("in place over a teacher that is the student", |r, w| {
            w.batch.teacher_logits.buffer = &r.student;
            gradient(w).buffer = &r.student;
        }, overlap(grad, teacher)),
        ("results on labels", |r, w| {
            w.batch.labels = at(&r.large, 60).into();
            w.outputs.row_results = Some(at(&r.large, 0));
        }, overlap(results, labels)),
        ("summary on the student", |r, w| w.outputs.summary = Some(at(&r.student, 0)), overlap(summary, student)),
        ("gradient and results", |r, w| {
            gradient(w).buffer = &r.large;
            w.outputs.row_results = Some(at(&r.large, 112));
        }, overlap(grad, results)),
        ("weights behind the end", |r, w| w.batch.row_weights = Some(at(&r.labels, 4)), too_small("row_weights", 20, 16)),
        ("weights between words", |r, w| w.batch.row_weights = Some(at(&r.large, 2)), misaligned("row_weights", 2, 4)),
        ("weights on the results", |r, w| w.batch.row_weights = Some(at(&r.results, 0)), overlap(results, "row_weights")),
        ("soft labels behind the end", |r, w| w.batch.soft_labels = Some(GpuLogits::new(&r.results, Storage::F32, 8)), too_small("soft_labels", 128, 64)),
        ("soft labels between words", |r, w| w.batch.soft_labels = Some(GpuLogits { offset: 2, ..GpuLogits::new(&r.large, Storage::F32, 8) }), misaligned("soft_labels", 2, 4)),
        ("soft labels of other classes", |r, w| w.batch.soft_labels = Some(GpuLogits::new(&r.large, Storage::F32, 7)), Error::SoftLabelShape { classes: CLASSES, got: 7 }),
        ("gradient on soft labels", |r, w| w.batch.soft_labels = Some(GpuLogits::new(&r.gradient, Storage::F32, 8)), overlap(grad, "soft_labels")),
        ("soft labels and one label apart", |r, w| {
            w.config.divergence = wgpu_distill::Divergence::Nkd { gamma: 1.5 };
            w.batch.soft_labels = Some(GpuLogits::new(&r.large, Storage::F32, 8));
        }, Error::Unsupported {
            what: "`soft_labels` with the divergence `nkd:1.5`".to_owned(),
            why: "",
        }),
        ("soft labels and class weights", |r, w| {
            w.batch.class_weights = Some(at(&r.labels, 0));
            w.batch.soft_labels = Some(GpuLogits::new(&r.large, Storage::F32, 8));
        }, Error::Unsupported {
            what: "`soft_labels` with `class_weights`".to_owned(),
            why: "",
        }),
        ("a list behind the end", |r, w| w.batch.teacher_ids = Some(at(&r.results, 0)), too_small("teacher_ids", 128, 64)),
        ("a list between words", |r, w| w.batch.teacher_ids = Some(at(&r.large, 2)), misaligned("teacher_ids", 2, 4)),
        ("gradient on a list", |r, w| w.batch.teacher_ids = Some(at(&r.gradient, 0)), overlap(grad, "teacher_ids")),
        ("a list of more than the classes", |r, w| {
            w.batch.teacher_logits = GpuLogits::new(&r.large, Storage::F32, 9);
            w.batch.teacher_ids = Some(at(&r.large, 0));
        }, limit("the number of a row's entries in `teacher_ids`", 9, 8)),
        ("a list and class weights", |r, w| {
            w.batch.class_weights = Some(at(&r.large, 0));
            w.batch.teacher_ids = Some(at(&r.large, 0));
        }, Error::Unsupported {
            what: "`teacher_ids` with `class_weights`".to_owned(),
            why: "",
        }),
        ("a list and metrics", |r, w| {
            (w.outputs.row_results, w.outputs.row_metrics) = (None, Some(at(&r.large, 0)));
            w.batch.teacher_ids = Some(at(&r.student, 0));
        }, Error::Unsupported {
            what: "`teacher_ids` with metrics of rows".to_owned(),
            why: "",
        }),
        ("class weights behind the end", |r, w| w.batch.class_weights = Some(at(&r.labels, 16)), too_small("class_weights", 16 + 4 * CLASSES as u64, 16)),
        ("class weights between words", |r, w| w.batch.class_weights = Some(at(&r.large, 2)), misaligned("class_weights", 2, 4)),
        ("class weights on the results", |r, w| w.batch.class_weights = Some(at(&r.results, 0)), overlap(results, "class_weights")),
        ("class weights that no kernel has", |r, w| {
            w.batch.class_weights = Some(at(&r.labels, 0));
            w.config.class_weighting = ClassWeighting::Both;
            w.config.divergence = Divergence::ReverseKl;
        }, Error::Unsupported {
            what: "class weights in the soft part with the divergence `reverse-kl`".to_owned(),
            why: "",
        }),
        ("results beside metrics", |r, w| w.outputs.row_metrics = Some(at(&r.large, 0)), Error::Unsupported {
            what: "`row_results` beside `row_metrics`".to_owned(),
            why: "",
        }),
        ("metrics where no item starts", |r, w| {
            (w.outputs.row_results, w.outputs.row_metrics) = (None, Some(at(&r.large, 16)));
        }, misaligned("row_metrics", 16, 64)),
        ("metrics in memory for results", |r, w| {
            (w.outputs.row_results, w.outputs.row_metrics) = (None, Some(at(&r.results, 0)));
        }, too_small("row_metrics", 256, 64)),
        ("results and summary", |r, w| {
            w.outputs.row_results = Some(at(&r.large, 208));
            w.outputs.summary = Some(at(&r.large, 256));
        }, overlap(results, summary)),
    ]
}

#[test]
fn bad_buffers_are_refused() {
    let Some(bench) = Bench::new(None) else {
        return;
    };
    let right = Right::new(&bench);
    bench.encode(&right.work()).expect("nothing is wrong yet");
    for (why, change, want) in cases() {
        let mut work = right.work();
        change(&right, &mut work);
        bench.refuses(why, &work, &want);
    }
}

/// Offsets whose end exceeds 64 bits. The sum must neither wrap around nor panic.
#[test]
fn offsets_at_the_end_of_the_world_are_refused() {
    let Some(bench) = Bench::new(None) else {
        return;
    };
    let right = Right::new(&bench);
    type Change = fn(&mut Work<'_>);
    let changes: [(&str, Change); 6] = [
        ("student_logits", |w| {
            w.batch.student_logits.offset = u64::MAX - 3
        }),
        ("teacher_logits", |w| {
            w.batch.teacher_logits.offset = u64::MAX - 63
        }),
        ("labels", |w| w.batch.labels.slice.offset = u64::MAX - 3),
        ("gradient", |w| gradient(w).offset = u64::MAX - 15),
        ("row_results", |w| {
            w.outputs.row_results.as_mut().unwrap().offset = u64::MAX - 15
        }),
        ("summary", |w| {
            w.outputs.summary.as_mut().unwrap().offset = u64::MAX - 255
        }),
    ];
    let mut panics = Vec::new();
    for (name, change) in changes {
        let mut work = right.work();
        change(&mut work);
        let encode = std::panic::AssertUnwindSafe(|| bench.encode(&work));
        match std::panic::catch_unwind(encode) {
            Ok(Err(Error::BufferTooSmall { name: got, .. })) => assert_eq!(got, name),
            Ok(other) => panic!("{name}: {other:?}"),
            Err(_) => panics.push(name),
        }
    }
    assert!(panics.is_empty(), "offsets that panic: {panics:?}");
    bench.is_silent("offsets");
}

#[test]
fn buffers_without_the_usage_are_refused() {
    let Some(bench) = Bench::new(None) else {
        return;
    };
    let right = Right::new(&bench);
    type Change = for<'a> fn(&mut Work<'a>, &'a wgpu::Buffer);
    let changes: [(&str, Change); 6] = [
        ("student_logits", |w, b| w.batch.student_logits.buffer = b),
        ("teacher_logits", |w, b| w.batch.teacher_logits.buffer = b),
        ("labels", |w, b| w.batch.labels.slice.buffer = b),
        ("gradient", |w, b| gradient(w).buffer = b),
        ("row_results", |w, b| w.outputs.row_results = Some(at(b, 0))),
        ("summary", |w, b| w.outputs.summary = Some(at(b, 0))),
    ];
    for (name, change) in changes {
        let mut work = right.work();
        change(&mut work, &right.unusable);
        let want = Error::BufferUsage {
            name,
            needed: "STORAGE".to_owned(),
            got: format!("{:?}", wgpu::BufferUsages::COPY_SRC),
        };
        // The debug text of usages contains parentheses. The test requires only that the message names the usages.
        bench.refuses(name, &work, &want);
    }
}

#[test]
fn bad_values_are_refused_on_buffers() {
    let Some(bench) = Bench::new(None) else {
        return;
    };
    let right = Right::new(&bench);
    for (field, value) in super::BAD_FIELDS {
        let mut work = right.work();
        work.config = super::config_with(field, value);
        bench.refuses(field, &work, &config_error(field, &value.to_string()));
    }
    let work = right.work();
    for (step, total) in [(1, 0), (2, 1), (u64::MAX, u64::MAX - 1)] {
        let progress = Progress { step, total };
        let mut encoder = bench.encoder();
        let (config, batch, outputs) = (&work.config, &work.batch, &work.outputs);
        let encode = bench
            .gpu
            .encode(&mut encoder, config, progress, batch, outputs, None);
        refused("progress", encode, &Error::InvalidProgress { step, total });
    }
    bench.is_silent("progress");
}

/// `plan` refuses buffers that a browser refuses, like everything that `encode` refuses.
#[test]
fn plans_know_what_a_browser_refuses() {
    let Some(mut bench) = Bench::new(None) else {
        return;
    };
    bench.gpu = bench.gpu.with_browser_rules();
    let right = Right::new(&bench);
    bench.encode(&right.work()).expect("nothing is wrong yet");
    let many = |w: &mut Work<'_>| {
        w.batch.rows = 1500;
        w.batch.labels.slice.offset = 0;
    };
    let large = || bench.buffer(1 << 16, wgpu::BufferUsages::STORAGE);
    let [a, b, c] = [(); 3].map(|()| large());
    let mut work = right.work();
    many(&mut work);
    let on = |buffer| GpuLogits::new(buffer, Storage::F32, CLASSES);
    work.batch.student_logits = on(&a);
    work.batch.teacher_logits = on(&b);
    work.batch.labels = at(&c, 0).into();
    work.outputs = GpuOutputs {
        gradient: Some(on(&a)),
        ..GpuOutputs::default()
    };
    let in_place = bench.gpu.plan(&work.config, &work.batch, &work.outputs);
    assert!(in_place.is_ok(), "{in_place:?}");
    assert_eq!(bench.encode(&work), Ok(()));
    // The results start directly after the labels, so that one binding begins before the other ends.
    work.outputs = GpuOutputs {
        row_results: Some(at(&c, (4 * 1500u64).next_multiple_of(16))),
        ..GpuOutputs::default()
    };
    bench.refuses("neighbours", &work, &overlap("labels", "row_results"));
}
