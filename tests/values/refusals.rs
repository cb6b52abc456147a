//! Error texts of the planner and of calls on buffers. Each names the value and the remedy.

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use wgpu_distill::plan::{Limits, Matrix, Plan, Problem, Tiling};
use wgpu_distill::{Config, Engine, Error, GradWrite, Progress, Storage, wgpu};

use crate::buffers;

const ROWS: usize = 8;
const CLASSES: usize = 8;

fn problem() -> Problem {
    let matrix = Matrix {
        storage: Storage::F32,
        row_stride: CLASSES,
        offset: 0,
        buffer_bytes: 4096,
    };
    let (student, teacher) = ((matrix, CLASSES), (matrix, CLASSES));
    Problem::new(ROWS, student, teacher, Some(matrix))
}

#[test]
fn limits_below_those_of_every_device() {
    let with = |limits: Limits| {
        let plan = Plan::new(&Config::default(), &problem(), &limits);
        plan.expect_err("refused").to_string()
    };
    let default = Limits::DEFAULT;
    for (limits, want) in [
        (
            Limits {
                storage_buffers: 4,
                ..default
            },
            "the device allows 4 storage buffers per kernel; the kernels need 8",
        ),
        (
            Limits {
                workgroups: 0,
                ..default
            },
            "the device allows 0 workgroups per dispatch; the kernels need 1",
        ),
        (
            Limits {
                workgroup_invocations: 0,
                ..default
            },
            "the device allows 0 invocations per workgroup; the kernels need 1",
        ),
        (
            Limits {
                binding_bytes: 256,
                ..default
            },
            "the device allows 256 bytes per storage binding; the kernels need 320",
        ),
        (
            Limits {
                offset_alignment: 4,
                ..default
            },
            "an offset alignment of 4 bytes is not supported here: it must be a power of two of at least 16 bytes",
        ),
    ] {
        assert_eq!(with(limits), want);
    }
}

#[test]
fn tilings_that_no_device_runs() {
    let with = |tiling: Tiling| {
        let plan = Plan::with_tiling(&Config::default(), &problem(), &Limits::DEFAULT, &tiling);
        plan.expect_err("refused").to_string()
    };
    let right = Tiling {
        lanes: 1,
        workgroup_size: 16,
        vectors_per_lane: 1,
        subgroup_min: None,
        segments: 1,
    };
    for (tiling, want) in [
        (
            Tiling {
                vectors_per_lane: 17,
                ..right
            },
            "a tiling of 1 lane per row in workgroups of 16 is not supported here: `vectors_per_lane` must be 1 to 16",
        ),
        (
            Tiling { lanes: 3, ..right },
            "a tiling of 3 lanes per row in workgroups of 16 is not supported here: both must be powers of two, and a row's lanes must fit in a workgroup",
        ),
        (
            Tiling {
                subgroup_min: Some(8),
                ..right
            },
            "a tiling of 1 lane per row in workgroups of 16 is not supported here: the device has no subgroup operations",
        ),
    ] {
        assert_eq!(with(tiling), want);
    }
}

fn in_place_and_accumulate() -> String {
    "`GradWrite::Accumulate` with the gradient in place of the student's logits is not supported here: the gradient would be added to the logits; use `Overwrite`, or a buffer for the gradient".to_owned()
}

fn accumulate() -> Config {
    Config {
        grad_write: GradWrite::Accumulate,
        ..Config::default()
    }
}

/// The planner refuses this, so every host that plans does.
#[test]
fn in_place_and_accumulate_have_no_plan() {
    let plan = |in_place, gradient, config: &Config| {
        let problem = Problem {
            in_place,
            gradient,
            ..problem()
        };
        Plan::new(config, &problem, &Limits::DEFAULT)
    };
    let gradient = problem().gradient;
    let refused = plan(true, gradient, &accumulate()).expect_err("refused");
    assert_eq!(refused.to_string(), in_place_and_accumulate());
    assert!(plan(true, gradient, &Config::default()).is_ok());
    assert!(plan(false, gradient, &accumulate()).is_ok());
    assert!(plan(true, None, &accumulate()).is_ok());
}

fn buffer(gpu: &Gpu) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4096,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    })
}

fn encode(gpu: &Gpu, config: &Config, change: impl Fn(&mut GpuOutputs<'_>)) -> Result<(), Error> {
    let [student, teacher, labels, results, summary] = [(); 5].map(|()| buffer(gpu));
    let logits = |buffer| GpuLogits::new(buffer, Storage::F32, CLASSES);
    let list = |buffer| GpuSlice { buffer, offset: 0 };
    let batch = GpuBatch {
        rows: ROWS,
        student_logits: logits(&student),
        teacher_logits: logits(&teacher),
        labels: list(&labels).into(),
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let mut outputs = GpuOutputs {
        summary: Some(list(&summary)),
        row_results: Some(list(&results)),
        gradient: Some(logits(&student)),
        row_metrics: None,
    };
    change(&mut outputs);
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let progress = Progress::new(1, 2);
    gpu.encode(&mut encoder, config, progress, &batch, &outputs, None)
}

#[test]
fn in_place_and_accumulate_on_buffers() {
    let Some(gpu) = buffers::gpu() else { return };
    let refused = encode(&gpu, &accumulate(), |_| ()).expect_err("refused");
    assert_eq!(refused.to_string(), in_place_and_accumulate());
    assert_eq!(encode(&gpu, &Config::default(), |_| ()), Ok(()));
}

/// The alignments that the docs of `GpuSlice::offset` state.
#[test]
fn offsets_of_lists() {
    let Some(gpu) = buffers::gpu() else { return };
    let config = Config::default();
    for offset in [4, 16, 128, 256, 512, 1024] {
        let summary = encode(&gpu, &config, |outputs| {
            outputs.summary.as_mut().expect("set").offset = offset;
        });
        let rows = encode(&gpu, &config, |outputs| {
            outputs.row_results.as_mut().expect("set").offset = offset;
        });
        for (got, name, alignment) in [(summary, "summary", 256), (rows, "row_results", 16)] {
            let want = match offset % alignment {
                0 => Ok(()),
                _ => Err(Error::BufferMisaligned {
                    name,
                    offset,
                    alignment,
                }),
            };
            assert_eq!(got, want);
        }
    }
}

/// A blank name would match every adapter.
#[test]
fn blank_adapter_names() {
    let Some(gpu) = buffers::gpu() else { return };
    let name = gpu.device().adapter_info().name;
    for blank in ["", " "] {
        match Engine::gpu(blank) {
            Err(Error::NoAdapter { wanted, available }) => {
                assert_eq!(wanted, blank);
                assert!(available.contains(&name), "{available}");
            }
            other => panic!("{blank:?} is not refused: {other:?}"),
        }
    }
}
