//! Use on a device of the application: its adapter, queue, encoder, other work and error handler.
//!
//! The error handler must receive nothing from the library.

use std::sync::{Arc, Mutex};

use crate::adapter;
use crate::cases::Tolerance;
use crate::cases::tolerance::assert_close;
use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use wgpu_distill::{
    Batch, Config, Logits, Progress, Reduction, RowResult, Storage, Summary, reference, wgpu,
};

mod far;
mod lifetimes;
mod limits;
mod losses;
mod rows;
mod run_into;
mod sharing;
mod soft_labels;

/// An application with a device.
struct App {
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    heard: Arc<Mutex<Vec<String>>>,
}

impl App {
    /// Creates a device with these limits and no features on the adapter under test. None if `WGPU_DISTILL_SKIP_GPU` is set.
    fn new(limits: wgpu::Limits) -> Option<Self> {
        if adapter::is_skipped() {
            return None;
        }
        let name = adapter::name();
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let is_it = |a: &wgpu::Adapter| {
            a.get_info()
                .name
                .to_lowercase()
                .contains(&name.to_lowercase())
        };
        let Some(adapter) = found.into_iter().find(is_it) else {
            panic!("no adapter `{name}`; set WGPU_DISTILL_SKIP_GPU to go without");
        };
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            required_limits: limits,
            ..Default::default()
        });
        let (device, queue) = pollster::block_on(request).expect("a device");
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let sink = heard.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            sink.lock().unwrap().push(error.to_string());
        }));
        Some(Self {
            adapter,
            device,
            queue,
            heard,
        })
    }

    fn gpu(&self) -> Gpu {
        Gpu::new(&self.device, &self.queue)
    }

    fn buffer(&self, bytes: &[u8]) -> wgpu::Buffer {
        use wgpu::util::DeviceExt;
        let descriptor = wgpu::util::BufferInitDescriptor {
            label: None,
            contents: bytes,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
        };
        self.device.create_buffer_init(&descriptor)
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&Default::default())
    }

    /// Submits, waits, and reads ranges of buffers.
    fn finish(
        &self,
        mut encoder: wgpu::CommandEncoder,
        parts: &[(&wgpu::Buffer, u64, u64)],
    ) -> Vec<Vec<u8>> {
        let staging: Vec<_> = parts
            .iter()
            .map(|(buffer, offset, size)| {
                let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size: *size,
                    usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                });
                encoder.copy_buffer_to_buffer(buffer, *offset, &staging, 0, *size);
                staging
            })
            .collect();
        self.queue.submit([encoder.finish()]);
        for buffer in &staging {
            buffer.slice(..).map_async(wgpu::MapMode::Read, |_| {});
        }
        let waited = self.device.poll(wgpu::PollType::wait_indefinitely());
        waited.expect("the device works");
        let read = |buffer: &wgpu::Buffer| buffer.slice(..).get_mapped_range().unwrap().to_vec();
        staging.iter().map(read).collect()
    }

    /// Records a compute pass of the application that runs `code` for each word of a buffer.
    fn dispatch(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffer: &wgpu::Buffer,
        code: &str,
        words: u32,
    ) {
        let text = format!(
            "@group(0) @binding(0) var<storage, read_write> data: array<f32>;
             @compute @workgroup_size(64)
             fn main(@builtin(global_invocation_id) id: vec3<u32>) {{ let i = id.x; if (i < {words}u) {{ {code} }} }}"
        );
        let module = wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(text.into()),
        };
        let module = self.device.create_shader_module(module);
        let pipeline = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: Default::default(),
                cache: None,
            });
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: buffer.as_entire_binding(),
            }],
        });
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(words.div_ceil(64), 1, 1);
    }

    fn is_silent(&self) {
        let heard = self.heard.lock().unwrap();
        assert!(heard.is_empty(), "uncaptured errors: {heard:?}");
    }
}

/// Approximately normal values with some outliers times twenty, computed from the index. All are multiples of 1/64.
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as f32 / 64.0 - 2.0
    };
    let value = |i: usize| {
        let x = next() + next();
        if i % 11 == 7 { 20.0 * x } else { x }
    };
    (0..n).map(value).collect()
}

/// Labels of many classes; every fifth is `ignore_index`.
fn labels(rows: usize, classes: usize) -> Vec<i32> {
    let label = |row: usize| match row % 5 {
        3 => -100,
        _ => (row * 7 % classes) as i32,
    };
    (0..rows).map(label).collect()
}

const TOLERANCE: Tolerance = Tolerance::F32;
const ROUNDING: f64 = TOLERANCE.gradient_rounding;

/// Fails unless rows are within the tolerances for f32.
///
/// `scale` multiplies the reference's gradient. `floor` is the absolute tolerance of a gradient element.
fn check_rows(
    about: &str,
    want: &reference::Distillation,
    rows: &[RowResult],
    gradient: &[f32],
    scale: f64,
    floor: f64,
) {
    assert_eq!(rows.len(), want.rows.len(), "{about}");
    assert_eq!(gradient.len(), want.grad_student_logits.len(), "{about}");
    let classes = gradient.len() / rows.len();
    for (i, (got, want)) in rows.iter().zip(&want.rows).enumerate() {
        let about = |what| format!("{about}: {what} of row {i}");
        close(
            &about("loss"),
            got.loss,
            want.loss,
            TOLERANCE.loss(want.loss, 1.0),
        );
        close(&about("kdr"), got.kdr, want.kdr, TOLERANCE.unit);
        close(&about("tssr"), got.tssr, want.tssr, TOLERANCE.unit);
    }
    let all = gradient
        .chunks(classes)
        .zip(want.grad_student_logits.chunks(classes));
    for (i, (got, want)) in all.enumerate() {
        let largest = want.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        for (got, want) in got.iter().zip(want) {
            let about = format!("{about}: gradient of row {i}");
            close(
                &about,
                *got,
                want * scale,
                (TOLERANCE.gradient_relative * largest + floor) * scale,
            );
        }
    }
}

fn check_summary(about: &str, want: &reference::Summary, got: &Summary) {
    close(
        &format!("{about}: loss"),
        got.loss,
        want.loss,
        TOLERANCE.loss(want.loss, 1.0),
    );
    close(&format!("{about}: kdr"), got.kdr, want.kdr, TOLERANCE.unit);
    close(
        &format!("{about}: tssr"),
        got.tssr,
        want.tssr,
        TOLERANCE.unit,
    );
    assert_eq!(got.valid_rows, want.valid_rows, "{about}");
    assert_eq!(got.ignored_rows, want.ignored_rows, "{about}");
}

fn close(about: &str, got: f32, want: f64, tolerance: f64) {
    assert_close(about, f64::from(got), want, tolerance);
}

/// The application records copies and dispatches before and after `encode` in one encoder. Each sees the results of the one before.
///
/// The matrices have offsets and strides.
#[test]
fn encode_takes_its_turn_among_the_applications_work() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    // Offset in elements and row stride of student, teacher and gradient, with and without alignment to 16 bytes.
    let layouts = [
        ("close together", [(0, 37), (0, 37), (0, 37)]),
        ("aligned rows", [(64, 40), (4, 48), (128, 40)]),
        ("rows that start anywhere", [(3, 41), (65, 37), (129, 39)]),
    ];
    let (rows, classes) = (19, 37);
    let labels = labels(rows, classes);
    let config = Config {
        student_temperature: 2.0,
        reduction: Reduction::Sum,
        ..Config::default()
    };
    let progress = Progress::new(2, 3);
    for (n, (about, [student, teacher, gradient])) in layouts.into_iter().enumerate() {
        let words = |(offset, stride): (usize, usize)| offset + rows * stride + 5;
        let produced = noise(words(student), 3 * n as u32 + 1);
        let source = app.buffer(bytemuck::cast_slice(&produced));
        // The gradient's buffer holds a canary, the student's buffer NaN until the copy.
        let nan = vec![f32::NAN; words(student)];
        let student_buffer = app.buffer(bytemuck::cast_slice(&nan));
        let teacher_values = noise(words(teacher), 3 * n as u32 + 2);
        let teacher_buffer = app.buffer(bytemuck::cast_slice(&teacher_values));
        let canary = vec![7.0f32; words(gradient)];
        let gradient_buffer = app.buffer(bytemuck::cast_slice(&canary));
        let labels_buffer = app.buffer(bytemuck::cast_slice(&labels));
        let results = app.buffer(&vec![0; 16 * rows]);
        let summary = app.buffer(&[0; size_of::<Summary>()]);
        let on = |buffer, (offset, row_stride): (usize, usize)| GpuLogits {
            buffer,
            offset: 4 * offset as u64,
            storage: Storage::F32,
            classes,
            row_stride,
        };
        let batch = GpuBatch {
            rows,
            student_logits: on(&student_buffer, student),
            teacher_logits: on(&teacher_buffer, teacher),
            labels: at(&labels_buffer, 0).into(),
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let outputs = GpuOutputs {
            summary: Some(at(&summary, 0)),
            row_results: Some(at(&results, 0)),
            gradient: Some(on(&gradient_buffer, gradient)),
            row_metrics: None,
        };

        let mut encoder = app.encoder();
        // The application computes the student's logits: a copy, then half of each.
        let bytes = 4 * words(student) as u64;
        encoder.copy_buffer_to_buffer(&source, 0, &student_buffer, 0, bytes);
        app.dispatch(
            &mut encoder,
            &student_buffer,
            "data[i] *= 0.5;",
            words(student) as u32,
        );
        gpu.encode(&mut encoder, &config, progress, &batch, &outputs, None)
            .unwrap_or_else(|e| panic!("{about}: {e}"));
        // The application multiplies the whole gradient buffer by eight, canaries included.
        app.dispatch(
            &mut encoder,
            &gradient_buffer,
            "data[i] *= 8.0;",
            words(gradient) as u32,
        );
        let parts = [
            (&gradient_buffer, 0, 4 * words(gradient) as u64),
            (&results, 0, 16 * rows as u64),
            (&summary, 0, size_of::<Summary>() as u64),
        ];
        let [read, results, summary] = app.finish(encoder, &parts).try_into().expect("three");

        let halves: Vec<f32> = produced.iter().map(|x| x * 0.5).collect();
        let rows_of = |values: &'_ [f32], (start, stride): (usize, usize)| -> Vec<f32> {
            values[start..][..(rows - 1) * stride + classes].to_vec()
        };
        let [s, t] = [rows_of(&halves, student), rows_of(&teacher_values, teacher)];
        let host = Batch {
            student_logits: Logits::new(&s, classes).with_row_stride(student.1),
            teacher_logits: Logits::new(&t, classes).with_row_stride(teacher.1),
            labels: &labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let want = reference::distill(&config, progress, &host).expect("a valid batch");
        let read: Vec<f32> = bytemuck::pod_collect_to_vec(&read);
        let results: Vec<RowResult> = bytemuck::pod_collect_to_vec(&results);
        let row = |r: usize| &read[gradient.0 + r * gradient.1..][..classes];
        let inside: Vec<f32> = (0..rows).flat_map(row).copied().collect();
        check_rows(about, &want, &results, &inside, 8.0, ROUNDING);
        check_summary(
            about,
            &want.summary,
            &bytemuck::pod_read_unaligned(&summary),
        );
        for (i, x) in read.iter().enumerate() {
            let inside = i >= gradient.0 && {
                let at = i - gradient.0;
                at / gradient.1 < rows && at % gradient.1 < classes
            };
            assert!(
                inside || *x == 56.0,
                "{about}: element {i} beside the gradient is {x}"
            );
        }
    }
    app.is_silent();
}

fn at(buffer: &wgpu::Buffer, offset: u64) -> GpuSlice<'_> {
    GpuSlice { buffer, offset }
}
