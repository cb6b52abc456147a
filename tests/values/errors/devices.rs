//! Refusals that depend on the device: missing adapters, low limits, workspaces and plans made for something else.

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, Workspace};
use wgpu_distill::plan::{Limits, Matrix, Plan, Problem, Tiling};
use wgpu_distill::{Batch, Config, Decision, Engine, Error, Outputs, Scope, Storage, wgpu};

use super::buffers::{Bench, Right, Work, at};
use super::{HALFWAY, limit, refused};

#[test]
fn adapters_that_are_not_there_are_named_with_those_that_are() {
    let Some(gpu) = super::gpu() else { return };
    let there = gpu.device().adapter_info().name;
    let wanted = "no adapter has this name";
    for result in [
        Engine::gpu(wanted).map(drop),
        pollster::block_on(Gpu::named(wanted)).map(drop),
    ] {
        let error = result.expect_err("there is no such adapter");
        let message = error.to_string();
        assert!(message.contains(wanted), "{message}");
        assert!(message.contains(&there), "{message}");
        let Error::NoAdapter { available, .. } = error else {
            panic!("{error:?}");
        };
        assert!(available.contains(&there), "{available}");
    }
}

/// `auto` never fails. Its description names the engine and the reason if that is not a GPU.
#[test]
fn auto_says_what_it_took() {
    let engine = Engine::auto();
    let words = engine.describe();
    match engine {
        Engine::Cpu { reason, .. } => assert!(words.contains(&reason) && !reason.is_empty()),
        _ => assert!(!words.is_empty()),
    }
}

/// `Workspace::fits` agrees with `encode`.
#[test]
fn small_workspaces_are_refused() {
    let Some(bench) = Bench::new(None) else {
        return;
    };
    let right = Right::new(&bench);
    let mut work = right.work();
    let plan = |work: &Work<'_>| {
        let plan = bench.gpu.plan(&work.config, &work.batch, &work.outputs);
        plan.expect("nothing is wrong")
    };
    let small = plan(&work);
    let workspace = Workspace::new(bench.gpu.device(), &small);
    assert!(workspace.fits(&small));
    // The same shape with statistics and decisions in the workspace.
    work.config.scope = Scope::Batch;
    let large = plan(&work);
    assert!(!workspace.fits(&large));
    let needed = large.workspace_bytes();
    let mut encoder = bench.encoder();
    let (config, batch, outputs) = (&work.config, &work.batch, &work.outputs);
    let encode = bench.gpu.encode(
        &mut encoder,
        config,
        HALFWAY,
        batch,
        outputs,
        Some(&workspace),
    );
    refused(
        "workspace of another plan",
        encode,
        &Error::WorkspaceTooSmall { needed },
    );
    bench.is_silent("workspace");
}

/// `encode_plan` refuses a plan for another problem, without a panic or a device error.
#[test]
fn plans_for_another_problem_are_refused() {
    let Some(bench) = Bench::new(None) else {
        return;
    };
    let right = Right::new(&bench);
    type Change = for<'a> fn(&'a Right, &mut Work<'a>);
    let others: [(&str, Change); 8] = [
        ("more rows", |r, w| {
            let on_large = |offset| GpuLogits {
                offset,
                ..GpuLogits::new(&r.large, Storage::F32, 8)
            };
            w.batch.student_logits = on_large(0);
            w.batch.teacher_logits = on_large(8 << 10);
            w.batch.labels = at(&r.large, 16 << 10).into();
            w.outputs.gradient = Some(on_large(24 << 10));
            w.outputs.row_results = Some(at(&r.large, 32 << 10));
            w.batch.rows = 200;
        }),
        ("fewer rows", |_, w| w.batch.rows = 3),
        ("no rows", |_, w| w.batch.rows = 0),
        ("no gradient", |_, w| w.outputs.gradient = None),
        ("another storage type", |_, w| {
            w.batch.student_logits.storage = Storage::F16;
        }),
        ("another gradient type", |_, w| {
            w.outputs.gradient.as_mut().unwrap().storage = Storage::Bf16;
        }),
        ("another scope", |_, w| w.config.scope = Scope::Batch),
        ("aligned rows", |r, w| {
            w.batch.student_logits.buffer = &r.large;
        }),
    ];
    let mut wrong = Vec::new();
    for (about, change) in others {
        let mut work = right.work();
        change(&right, &mut work);
        let plan = bench.gpu.plan(&work.config, &work.batch, &work.outputs);
        let plan = plan.expect("a plan for the other problem");
        let mut work = right.work();
        if about == "aligned rows" {
            // Rows that start at any element, with a plan that loads four elements at a time.
            work.batch.student_logits.buffer = &right.large;
            work.batch.student_logits.offset = 4;
        }
        let attempt = std::panic::AssertUnwindSafe(|| {
            let mut encoder = bench.encoder();
            let (config, batch, outputs) = (&work.config, &work.batch, &work.outputs);
            let done =
                bench
                    .gpu
                    .encode_plan(&mut encoder, &plan, config, HALFWAY, batch, outputs, None);
            drop(encoder.finish());
            done
        });
        match std::panic::catch_unwind(attempt) {
            Ok(Err(_)) => {}
            Ok(Ok(())) => wrong.push(format!("{about}: accepted")),
            Err(_) => wrong.push(format!("{about}: panics")),
        }
        wrong.extend(bench.take_heard().map(|e| format!("{about}: {e}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `encode_plan` refuses a plan for the same problem that was made for a device with higher limits. The device reports no error.
///
/// A plan for a device with lower limits is accepted.
#[test]
fn plans_for_another_device_are_refused() {
    let device = wgpu::Limits {
        max_storage_buffer_binding_size: 64 << 10,
        max_compute_workgroups_per_dimension: 16,
        ..Default::default()
    };
    let Some(bench) = Bench::new(Some(device)) else {
        return;
    };
    // More than one chunk on this device for each of the bindings.
    let (rows, classes) = (1100, 16);
    let storage = |size| bench.buffer(size, wgpu::BufferUsages::STORAGE);
    let (matrix, labels) = (storage(4 * rows * classes), storage(4 * rows));
    let (rows, classes) = (rows as usize, classes as usize);
    let logits = GpuLogits::new(&matrix, Storage::F32, classes);
    let batch = GpuBatch {
        rows,
        student_logits: logits,
        teacher_logits: logits,
        labels: at(&labels, 0).into(),
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let side = Matrix {
        storage: Storage::F32,
        row_stride: classes,
        offset: 0,
        buffer_bytes: matrix.size(),
    };
    let problem = Problem::new(rows, (side, classes), (side, classes), None);
    let own = bench.gpu.limits();
    let a_lane_a_row = Tiling {
        lanes: 64,
        workgroup_size: 64,
        vectors_per_lane: 1,
        subgroup_min: None,
        segments: 1,
    };
    type Case = (&'static str, Limits, Tiling, bool);
    let cases: [Case; 8] = [
        ("its own", own, a_lane_a_row, true),
        (
            "half the bindings, twice the alignment",
            Limits {
                binding_bytes: 32 << 10,
                offset_alignment: 512,
                ..own
            },
            a_lane_a_row,
            true,
        ),
        (
            "large bindings",
            Limits {
                binding_bytes: 1 << 20,
                ..own
            },
            a_lane_a_row,
            false,
        ),
        (
            "many workgroups",
            Limits {
                workgroups: 65_535,
                ..own
            },
            a_lane_a_row,
            false,
        ),
        (
            "bindings at multiples of 16 bytes",
            Limits {
                offset_alignment: 16,
                ..own
            },
            a_lane_a_row,
            false,
        ),
        (
            "large workgroups",
            Limits {
                workgroup_invocations: 1024,
                workgroup_bytes: 1 << 20,
                ..own
            },
            Tiling {
                workgroup_size: 1024,
                ..a_lane_a_row
            },
            false,
        ),
        (
            "subgroups",
            Limits {
                subgroup: Some((8, 8)),
                ..own
            },
            Tiling {
                subgroup_min: Some(8),
                ..a_lane_a_row
            },
            false,
        ),
        (
            "many workgroups of decide",
            Limits {
                workgroups: 65_535,
                software: true,
                ..own
            },
            Tiling {
                lanes: 1,
                ..a_lane_a_row
            },
            false,
        ),
    ];
    let config = Config {
        scope: Scope::Batch,
        ..Config::default()
    };
    let outputs = GpuOutputs::default();
    for (about, limits, tiling, is_supported) in cases {
        let plan = Plan::with_tiling(&config, &problem, &limits, &tiling);
        let plan = plan.unwrap_or_else(|e| panic!("{about}: {e}"));
        let mut encoder = bench.encoder();
        let done = bench.gpu.encode_plan(
            &mut encoder,
            &plan,
            &config,
            HALFWAY,
            &batch,
            &outputs,
            None,
        );
        let want = if is_supported {
            Ok(())
        } else {
            Err(Error::PlanMismatch)
        };
        assert_eq!(done, want, "{about}");
        bench.gpu.queue().submit([encoder.finish()]);
        bench.is_silent(about);
    }
}

/// A row of logits that exceeds a binding cannot be split. It is refused on buffers and on slices.
#[test]
fn a_row_larger_than_a_binding_is_refused() {
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: 64 << 10,
        ..Default::default()
    };
    let Some(bench) = Bench::new(Some(limits)) else {
        return;
    };
    let classes = 16 << 10;
    let values = vec![0.0; 2 * classes];
    let batch = Batch::new(&values, &values, &[0, 1], classes);
    let run = bench
        .gpu
        .run(&Config::default(), HALFWAY, &batch, Outputs::SUMMARY);
    let alignment = bench.gpu.limits().offset_alignment;
    let room = (64 << 10) - alignment - 16;
    refused(
        "run",
        run,
        &limit("the size of one row of logits in bytes", 64 << 10, room),
    );
    let big = bench.buffer(1 << 18, wgpu::BufferUsages::STORAGE);
    let right = Right::new(&bench);
    let mut work = right.work();
    work.outputs = GpuOutputs::default();
    let logits = GpuLogits::new(&big, Storage::F32, classes);
    work.batch = GpuBatch {
        student_logits: logits,
        teacher_logits: logits,
        ..work.batch
    };
    bench.refuses(
        "buffers",
        &work,
        &limit("the size of one row of logits in bytes", 64 << 10, room),
    );
}

/// A row that fits a binding but no buffer, and a row that fits neither.
///
/// Every call that uploads rows refuses both before the upload.
#[test]
fn a_row_larger_than_a_buffer_is_refused() {
    let small = wgpu::Limits {
        max_buffer_size: 64 << 10,
        ..Default::default()
    };
    // A row of 1 GiB. Its upload would take a second and twice the memory.
    for (limits, classes, most) in [
        (small, 20 << 10, 64 << 10),
        (wgpu::Limits::default(), 1 << 28, 256 << 20),
    ] {
        let Some(bench) = Bench::new(Some(limits)) else {
            return;
        };
        let values = vec![0.0; classes];
        let batch = Batch::new(&values, &values, &[1], classes);
        let config = Config::default();
        let decisions = [Decision::default()];
        let gpu = &bench.gpu;
        for (call, result) in [
            (
                "run",
                gpu.run(&config, HALFWAY, &batch, Outputs::SUMMARY)
                    .map(drop),
            ),
            (
                "softmax",
                gpu.softmax(&batch.student_logits, 1, 1.0).map(drop),
            ),
            ("observe", gpu.observe(&config, &batch).map(drop)),
            ("apply", gpu.apply(&config, &batch, &decisions).map(drop)),
        ] {
            match result {
                Err(Error::LimitExceeded {
                    what: "the size of one row of logits in bytes",
                    needed,
                    limit,
                }) => assert!(
                    needed == 4 * classes as u64 && limit < most,
                    "{call}: {limit}"
                ),
                other => panic!("{call} of {classes} classes: {other:?}"),
            }
        }
        bench.is_silent("rows");
    }
}

/// A device that lacks a required limit, or whose buffers cannot hold a workspace, gives an error. Its error handler receives nothing.
#[test]
fn devices_that_are_too_small_are_refused() {
    let default = wgpu::Limits::default;
    let few_buffers = wgpu::Limits {
        max_storage_buffers_per_shader_stage: 4,
        ..default()
    };
    let little_memory = wgpu::Limits {
        max_compute_workgroup_storage_size: 1 << 9,
        ..default()
    };
    let small_buffers = wgpu::Limits {
        max_buffer_size: 128 << 10,
        max_storage_buffer_binding_size: 64 << 10,
        ..default()
    };
    // Missing capability, limits, rows, and true if the call may succeed.
    let cases = [
        ("4 storage buffers, 7 needed", few_buffers, 4, false),
        ("512 bytes of workgroup memory", little_memory, 4, false),
        (
            "statistics of 3,000 rows in buffers of 128 KiB",
            small_buffers,
            3000,
            true,
        ),
    ];
    let mut wrong = Vec::new();
    for (about, limits, rows, possible) in cases {
        let Some(bench) = Bench::new(Some(limits)) else {
            return;
        };
        let usage = wgpu::BufferUsages::STORAGE;
        let [matrix, labels] = [3000 * 32, 3000 * 4].map(|size| bench.buffer(size, usage));
        let logits = GpuLogits::new(&matrix, Storage::F32, 8);
        let work = Work {
            config: Config {
                scope: Scope::Batch,
                ..Config::default()
            },
            batch: GpuBatch {
                rows,
                student_logits: logits,
                teacher_logits: logits,
                labels: at(&labels, 0).into(),
                soft_labels: None,
                row_weights: None,
                class_weights: None,
                teacher_ids: None,
            },
            outputs: GpuOutputs::default(),
        };
        match bench.encode(&work) {
            Ok(()) if possible => {}
            Err(
                Error::LimitExceeded { .. } | Error::DeviceLimit { .. } | Error::Unsupported { .. },
            ) => {}
            other => wrong.push(format!("{about}: {other:?}")),
        }
        wrong.extend(bench.take_heard().map(|e| format!("{about}: {e}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
