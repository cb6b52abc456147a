//! Devices with low limits: default limits, the least that is needed, small buffers and bindings.

use crate::steps::Steps;
use wgpu_distill::gpu::{GpuBatch, GpuLogits, GpuOutputs};
use wgpu_distill::{
    Batch, Config, Engine, Logits, Outputs, Progress, Reduction, Result, RowResult, Scope,
    Similarity, Storage, Summary, TeacherClasses, reference, wgpu,
};

use super::{App, ROUNDING, TOLERANCE, at, check_rows, check_summary, close, labels, noise};

/// Matrices of 160 MB with bindings of 128 MiB: two chunks of whole rows. The first and last rows of both match the reference.
#[test]
fn a_matrix_larger_than_a_binding_is_done_in_chunks() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    assert_eq!(app.device.features(), wgpu::Features::empty());
    let gpu = app.gpu();
    let (rows, classes) = (40_000, 1000);
    // 997 rows of noise, repeated, so that a row has other neighbours in each repetition.
    let tile = 997 * classes;
    let values = |seed| -> Vec<f32> {
        let tile = noise(tile, seed);
        tile.iter().copied().cycle().take(rows * classes).collect()
    };
    let (student, teacher) = (values(1), values(2));
    let labels = labels(rows, classes);
    let [s, t] = [&student, &teacher].map(|v| app.buffer(bytemuck::cast_slice(v)));
    let l = app.buffer(bytemuck::cast_slice(&labels));
    let summary = app.buffer(&[0; size_of::<Summary>()]);
    let results = app.buffer(&vec![0; 16 * rows]);
    let logits = |buffer| GpuLogits::new(buffer, Storage::F32, classes);
    let batch = GpuBatch {
        rows,
        student_logits: logits(&s),
        teacher_logits: logits(&t),
        labels: at(&l, 0).into(),
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let outputs = GpuOutputs {
        summary: Some(at(&summary, 0)),
        row_results: Some(at(&results, 0)),
        // In place, so that no other matrix of rows x classes is needed.
        gradient: Some(logits(&s)),
        row_metrics: None,
    };
    let config = Config::default();
    let progress = Progress::new(1, 2);
    let plan = gpu.plan(&config, &batch, &outputs).expect("a plan");
    assert_eq!(plan.chunks().len(), 2, "{plan}");
    let mut encoder = app.encoder();
    let done = gpu.encode(&mut encoder, &config, progress, &batch, &outputs, None);
    done.expect("encoded");
    let ends = plan
        .chunks()
        .iter()
        .flat_map(|c| [c.rows.start, c.rows.end - 1]);
    let probes: Vec<usize> = ends.chain([1, 996, 997, 20_001, 39_998]).collect();
    let row_bytes = 4 * classes as u64;
    let mut parts: Vec<_> = probes
        .iter()
        .map(|r| (&s, *r as u64 * row_bytes, row_bytes))
        .collect();
    parts.extend([
        (&results, 0, 16 * rows as u64),
        (&summary, 0, size_of::<Summary>() as u64),
    ]);
    let mut read = app.finish(encoder, &parts);
    let summary: Summary = bytemuck::pod_read_unaligned(&read.pop().expect("the summary"));
    let results: Vec<RowResult> = bytemuck::pod_collect_to_vec(&read.pop().expect("the rows"));

    // The denominator of the mean counts the whole batch.
    let valid = labels.iter().filter(|l| **l >= 0).count();
    let over = Config {
        reduction: Reduction::SumOver(valid as f32),
        ..config
    };
    for (row, gradient) in probes.into_iter().zip(&read) {
        let range = row * classes..(row + 1) * classes;
        let host = Batch::new(
            &student[range.clone()],
            &teacher[range],
            &labels[row..=row],
            classes,
        );
        let want = reference::distill(&over, progress, &host).expect("valid");
        let gradient: Vec<f32> = bytemuck::pod_collect_to_vec(gradient);
        let floor = ROUNDING / valid as f64;
        check_rows(
            &format!("row {row}"),
            &want,
            &results[row..=row],
            &gradient,
            1.0,
            floor,
        );
    }
    assert_eq!(summary.valid_rows as usize, valid);
    let mean = |f: fn(&RowResult) -> f32| {
        let all = results.iter().map(|r| f64::from(f(r)));
        all.sum::<f64>() / valid as f64
    };
    let (loss, kdr) = (mean(|r| r.loss), mean(|r| r.kdr));
    close("loss", summary.loss, loss, TOLERANCE.loss(loss, 1.0));
    close("kdr", summary.kdr, kdr, TOLERANCE.unit);
    app.is_silent();
}

/// Limits, from the highest to the lowest that are sufficient.
fn devices() -> [(&'static str, wgpu::Limits); 3] {
    // One kernel binds seven storage buffers. WebGPU's default of eight is the only limit above the downlevel defaults.
    let downlevel = wgpu::Limits {
        max_storage_buffers_per_shader_stage: 8,
        ..wgpu::Limits::downlevel_defaults()
    };
    // Buffers of 1 MiB and bindings of 256 KiB: slices are uploaded in row ranges, which are bound in chunks.
    let small = wgpu::Limits {
        max_buffer_size: 1 << 20,
        max_storage_buffer_binding_size: 256 << 10,
        ..wgpu::Limits::default()
    };
    [
        ("default limits", wgpu::Limits::default()),
        ("downlevel", downlevel),
        ("small buffers", small),
    ]
}

/// Every scope, with short and long rows, on devices with low limits.
#[test]
fn small_devices_are_enough() {
    for (about, limits) in devices() {
        let Some(app) = App::new(limits) else { return };
        let gpu = app.gpu();
        for (rows, classes) in [(3, 10_000), (700, 501), (9000, 10)] {
            let (student, teacher) = (noise(rows * classes, 5), noise(rows * classes, 6));
            let labels = labels(rows, classes);
            let batch = Batch::new(&student, &teacher, &labels, classes);
            for (scope, similarity) in [
                (Scope::Row, Similarity::Cosine),
                (Scope::Batch, Similarity::Overlap),
            ] {
                let about = format!("{about}, {rows} x {classes}, {scope:?}");
                let config = Config {
                    scope,
                    similarity,
                    ..Config::default()
                };
                let progress = Progress::new(3, 4);
                let want = reference::distill(&config, progress, &batch).expect("valid");
                let got = gpu.run(&config, progress, &batch, Outputs::ALL);
                let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
                check_summary(&about, &want.summary, &got.summary);
                let rows = got.rows.clone();
                let gradient = got.into_grad_student_logits();
                let w = 1.0 / f64::from(want.summary.valid_rows);
                check_rows(&about, &want, &rows, &gradient, 1.0, ROUNDING * w);
            }
        }
        app.is_silent();
    }
}

/// Single steps on a device with small buffers are split into row ranges, too.
#[test]
fn single_steps_are_cut_into_row_ranges() {
    let [.., (_, limits)] = devices();
    let Some(app) = App::new(limits) else { return };
    let (rows, classes) = (5000, 33);
    let (student, teacher) = (noise(rows * classes, 15), noise(rows * classes, 16));
    let labels = labels(rows, classes);
    let batch = Batch::new(&student, &teacher, &labels, classes);
    let config = Config {
        scope: Scope::Batch,
        ..Config::default()
    };
    let progress = Progress::new(3, 4);
    let engine = Engine::Gpu(app.gpu());
    let run = || -> Result<_> {
        let p = engine.softmax(&batch.student_logits, rows, 1.0)?;
        let stats = engine.observe(&config, &batch)?;
        let decisions = engine.decide(&config, progress, &stats, classes)?;
        let gradient = engine.apply(&config, &batch, &decisions)?;
        Ok((p, decisions, gradient))
    };
    let (p, decisions, gradient) = run().unwrap_or_else(|e| panic!("{e}"));
    let want = reference::distill(&config, progress, &batch).expect("valid");
    let results: Vec<_> = decisions.iter().map(|d| d.result).collect();
    let w = 1.0 / f64::from(want.summary.valid_rows);
    check_rows("steps", &want, &results, &gradient, 1.0, ROUNDING * w);
    let wanted = reference::softmax(&batch.student_logits, rows, 1.0).expect("valid");
    assert_eq!(p.len(), wanted.len());
    for (i, (got, want)) in p.iter().zip(wanted).enumerate() {
        close(
            &format!("probability {i}"),
            *got,
            want,
            TOLERANCE.gradient(want, 1.0),
        );
    }
    app.is_silent();
}

/// Single steps with bindings so small that alignment leaves less than half of one. Each step is still one dispatch.
#[test]
fn single_steps_fit_the_smallest_bindings() {
    // 512 bytes are the least that leave room for a row of 16 after an alignment of 256 bytes.
    for bytes in [512, 640, 1024] {
        let Some(app) = App::new(wgpu::Limits {
            max_storage_buffer_binding_size: bytes,
            ..wgpu::Limits::default()
        }) else {
            return;
        };
        let engine = Engine::Gpu(app.gpu());
        let (rows, classes) = (4, 16);
        let (student, teacher) = (noise(rows * classes, 31), noise(rows * classes, 32));
        let labels = labels(rows, classes);
        let batch = Batch::new(&student, &teacher, &labels, classes);
        let config = Config::default();
        let progress = Progress::new(1, 2);
        let about = |what: &str| format!("{what} in bindings of {bytes} bytes");
        let p = engine.softmax(&batch.student_logits, rows, 1.0);
        let p = p.unwrap_or_else(|e| panic!("{}: {e}", about("softmax")));
        let wanted = reference::softmax(&batch.student_logits, rows, 1.0).expect("valid");
        assert_eq!(p.len(), wanted.len());
        for (got, want) in p.iter().zip(wanted) {
            close(&about("softmax"), *got, want, TOLERANCE.gradient(want, 1.0));
        }
        let steps = || -> Result<_> {
            let stats = engine.observe(&config, &batch)?;
            let decisions = engine.decide(&config, progress, &stats, classes)?;
            let gradient = engine.apply(&config, &batch, &decisions)?;
            Ok((decisions, gradient))
        };
        let (decisions, gradient) = steps().unwrap_or_else(|e| panic!("{}: {e}", about("steps")));
        let want = reference::distill(&config, progress, &batch).expect("valid");
        let results: Vec<_> = decisions.iter().map(|d| d.result).collect();
        let w = 1.0 / f64::from(want.summary.valid_rows);
        check_rows(
            &about("steps"),
            &want,
            &results,
            &gradient,
            1.0,
            ROUNDING * w,
        );
        app.is_silent();
    }
}

/// A teacher with a hundred and more times the student's classes, used by its common prefix.
///
/// Its rows lie far apart, and a binding ends at the last common class.
/// Rows that exceed a binding, and a row that exceeds a buffer, are accepted.
#[test]
fn a_teacher_far_wider_than_the_student_is_no_obstacle() {
    let limits = |buffer| wgpu::Limits {
        max_storage_buffer_binding_size: 64 << 10,
        max_buffer_size: buffer,
        ..wgpu::Limits::default()
    };
    for (buffer, rows, teacher_classes) in [
        (256 << 20, 20, 1000),
        (256 << 20, 17, 16_383),
        (128 << 10, 3, 40_000),
    ] {
        let Some(app) = App::new(limits(buffer)) else {
            return;
        };
        let classes = 10;
        let (student, teacher) = (noise(rows * classes, 41), noise(rows * teacher_classes, 42));
        let labels = labels(rows, classes);
        let batch = Batch {
            student_logits: Logits::new(&student, classes),
            teacher_logits: Logits::new(&teacher, teacher_classes),
            labels: &labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let progress = Progress::new(1, 2);
        for scope in [Scope::Row, Scope::Batch] {
            let about = format!("{teacher_classes} classes, {scope:?}");
            let config = Config {
                scope,
                teacher_classes: TeacherClasses::CommonPrefix,
                ..Config::default()
            };
            let want = reference::distill(&config, progress, &batch).expect("valid");
            let got = app.gpu().run(&config, progress, &batch, Outputs::ALL);
            let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
            check_summary(&about, &want.summary, &got.summary);
            let rows = got.rows.clone();
            let gradient = got.into_grad_student_logits();
            let w = 1.0 / f64::from(want.summary.valid_rows);
            check_rows(&about, &want, &rows, &gradient, 1.0, ROUNDING * w);
            let stats = app.gpu().observe(&config, &batch);
            assert_eq!(stats.map(|s| s.len()), Ok(labels.len()), "{about}");
        }
        app.is_silent();
    }
}

/// All inputs in one buffer and all outputs in another.
///
/// The ranges do not overlap, although their bindings do, which start at multiples of 256 bytes.
#[test]
fn neighbours_in_one_buffer_leave_each_other_alone() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    let (rows, classes) = (6, 7);
    let (student, teacher) = (noise(rows * classes, 21), noise(rows * classes, 22));
    let labels = labels(rows, classes);
    let matrix = (4 * rows * classes) as u64;
    // Offsets of student, teacher, labels and gradient; row results at the next multiple of 16, summary at the next multiple of 256.
    let (t, l, g) = (matrix, 2 * matrix, 2 * matrix + 4 * rows as u64);
    let r = (g + matrix).next_multiple_of(16);
    let sum = (r + 16 * rows as u64).next_multiple_of(256);
    let mut bytes = vec![0xa5u8; sum as usize + size_of::<Summary>()];
    bytes[..t as usize].copy_from_slice(bytemuck::cast_slice(&student));
    bytes[t as usize..l as usize].copy_from_slice(bytemuck::cast_slice(&teacher));
    bytes[l as usize..g as usize].copy_from_slice(bytemuck::cast_slice(&labels));
    let buffer = app.buffer(&bytes);
    for scope in [Scope::Row, Scope::Batch] {
        let config = Config {
            scope,
            ..Config::default()
        };
        let progress = Progress::new(1, 2);
        let logits = |offset| GpuLogits {
            offset,
            ..GpuLogits::new(&buffer, Storage::F32, classes)
        };
        let batch = GpuBatch {
            rows,
            student_logits: logits(0),
            teacher_logits: logits(t),
            labels: at(&buffer, l).into(),
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let outputs = GpuOutputs {
            summary: Some(at(&buffer, sum)),
            row_results: Some(at(&buffer, r)),
            gradient: Some(logits(g)),
            row_metrics: None,
        };
        let mut encoder = app.encoder();
        let done = gpu.encode(&mut encoder, &config, progress, &batch, &outputs, None);
        done.unwrap_or_else(|e| panic!("{scope:?}: {e}"));
        let read = app
            .finish(encoder, &[(&buffer, 0, buffer.size())])
            .remove(0);
        assert_eq!(
            read[..g as usize],
            bytes[..g as usize],
            "{scope:?}: the inputs"
        );
        let gap = (g + matrix) as usize..r as usize;
        assert_eq!(read[gap.clone()], bytes[gap], "{scope:?}: between outputs");
        let host = Batch::new(&student, &teacher, &labels, classes);
        let want = reference::distill(&config, progress, &host).expect("valid");
        let gradient: Vec<f32> =
            bytemuck::pod_collect_to_vec(&read[g as usize..][..matrix as usize]);
        let results: Vec<RowResult> =
            bytemuck::pod_collect_to_vec(&read[r as usize..][..16 * rows]);
        check_rows(
            &format!("{scope:?}"),
            &want,
            &results,
            &gradient,
            1.0,
            ROUNDING,
        );
        let summary = bytemuck::pod_read_unaligned(&read[sum as usize..]);
        check_summary(&format!("{scope:?}"), &want.summary, &summary);
    }
    app.is_silent();
}
