//! Low limits, unusual devices, impossible shapes and random problems give a sound plan or an error, never a panic.

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed};
use wgpu_distill::plan::{Limits, Matrix, Plan, Problem, Tiling};
use wgpu_distill::shader::Kernel;
use wgpu_distill::{Config, Error, Result, Scope, Storage};

use super::{CLASSES, SUBGROUPS, check, planned, problem, scoped};

/// Rows cannot be split. The longest row that fits gets a plan, and one more element is refused.
#[test]
fn a_row_larger_than_a_binding_is_an_error() {
    for binding_bytes in [4 << 10, 64 << 10, 1 << 20, 128 << 20] {
        let limits = Limits {
            binding_bytes,
            ..Limits::DEFAULT
        };
        let room = binding_bytes - 256 - 16;
        let most = room as usize / 4;
        planned(&Config::default(), &problem(3, most, Storage::F32), &limits);
        planned(
            &Config::default(),
            &problem(3, 2 * most, Storage::F16),
            &limits,
        );
        let plan = Plan::new(
            &Config::default(),
            &problem(3, most + 1, Storage::F32),
            &limits,
        );
        let Err(Error::LimitExceeded {
            what,
            needed,
            limit,
        }) = plan
        else {
            panic!("{plan:?}");
        };
        assert!(what.contains("row"), "{what}");
        assert_eq!((needed, limit), (4 * (most as u64 + 1), room));
    }
}

/// The partial sums of all workgroups are bound together. They fit a binding, or the plan is refused.
#[test]
fn partial_sums_fit_a_binding() {
    for (binding_bytes, rows) in [
        (4 << 10, 100_000),
        (64 << 10, 1_000_000),
        (128 << 20, 1_000_000),
    ] {
        let limits = Limits {
            binding_bytes,
            ..Limits::DEFAULT
        };
        for scope in [Scope::Row, Scope::Batch] {
            let plan = Plan::new(&scoped(scope), &problem(rows, 10, Storage::F32), &limits);
            let Ok(plan) = plan else { continue };
            let groups: u64 = plan.chunks().iter().map(|c| u64::from(c.workgroups)).sum();
            assert!(
                48 * groups <= binding_bytes,
                "{binding_bytes}: {groups} workgroups, {plan}"
            );
        }
    }
}

/// Rows as long as a binding on a device with many workgroups. The plan would list more dispatches than host memory can hold.
#[test]
fn too_many_chunks_are_refused() {
    let limits = Limits {
        binding_bytes: 4 << 10,
        ..Limits::DEFAULT
    };
    // Each row fills a binding, so there are as many chunks as rows. Their partial sums would fit the second device.
    let long = problem(1_000_000_000, 900, Storage::F32);
    let wide = Limits {
        binding_bytes: 1 << 40,
        buffer_bytes: u64::MAX,
        ..limits
    };
    let longest = problem(1 << 20, 1 << 28, Storage::F32);
    for (limits, problem) in [(limits, long), (wide, longest)] {
        for scope in [Scope::Row, Scope::Batch] {
            let plan = Plan::new(&scoped(scope), &problem, &limits);
            let Err(Error::LimitExceeded { what, needed, .. }) = plan else {
                panic!("{plan:?}");
            };
            assert!(what.contains("chunks"), "{what}");
            assert_eq!(needed, problem.rows as u64);
        }
    }
}

/// Limits without any room give an error, not an arithmetic panic.
#[test]
fn hopeless_limits_are_refused() {
    let d = Limits::DEFAULT;
    let cases = [
        (
            "nothing to bind",
            Limits {
                binding_bytes: 0,
                ..d
            },
        ),
        (
            "less than the alignment",
            Limits {
                binding_bytes: 100,
                ..d
            },
        ),
        (
            "no more than the alignment",
            Limits {
                binding_bytes: 272,
                ..d
            },
        ),
        (
            "no workgroup memory",
            Limits {
                workgroup_bytes: 0,
                ..d
            },
        ),
        (
            "no invocations",
            Limits {
                workgroup_invocations: 0,
                ..d
            },
        ),
        ("no workgroups", Limits { workgroups: 0, ..d }),
    ];
    refusals(cases.map(|(why, limits)| (why, problem(4, 1000, Storage::F32), limits)));
}

/// Matrices that the other calls refuse, but that `Plan::new` can receive.
#[test]
fn impossible_shapes_are_refused() {
    let shape = |classes, row_stride| {
        let mut problem = problem(4, 1000, Storage::F32);
        problem.classes = classes;
        problem.student.row_stride = row_stride;
        problem
    };
    let cases = [
        ("stride 0", shape(1000, 0)),
        ("rows that overlap", shape(1000, 999)),
        ("no classes", shape(0, 1000)),
        ("the most classes", shape(usize::MAX, usize::MAX)),
        ("the largest strides", shape(1000, usize::MAX)),
    ];
    refusals(cases.map(|(why, problem)| (why, problem, Limits::DEFAULT)));
}

fn refusals(cases: impl IntoIterator<Item = (&'static str, Problem, Limits)>) {
    let mut wrong = Vec::new();
    for (why, problem, limits) in cases {
        let plan = std::panic::catch_unwind(|| Plan::new(&Config::default(), &problem, &limits));
        match plan {
            Ok(Err(_)) => {}
            Ok(Ok(plan)) => wrong.push(format!("{why}: accepted as {plan}")),
            Err(_) => wrong.push(format!("{why}: panics")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Devices whose limits are not powers of two or lie between the usual values get a plan.
#[test]
fn odd_devices_have_plans() {
    let mut wrong = Vec::new();
    for invocations in [128, 192, 256, 384, 512, 640, 768, 896, 1024, 2048] {
        for subgroup in [None].into_iter().chain(SUBGROUPS.map(Some)) {
            for software in [false, true] {
                let limits = Limits {
                    workgroup_invocations: invocations,
                    workgroup_bytes: 32 << 10,
                    subgroup,
                    software,
                    ..Limits::DEFAULT
                };
                for classes in CLASSES {
                    let problem = problem(9, classes, Storage::F32);
                    match Plan::new(&Config::default(), &problem, &limits) {
                        Ok(plan) => check(&plan, &Config::default(), &problem, &limits),
                        Err(e) => wrong.push(format!(
                            "{invocations} invocations, subgroups {subgroup:?}: {e}"
                        )),
                    }
                }
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(
        wrong.is_empty(),
        "{} of them:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Lanes and workgroup sizes from the caller are used as given, or refused with both numbers.
#[test]
fn chosen_lanes_are_taken_or_refused() {
    let with = |lanes, size, subgroup| -> Result<Plan> {
        let limits = Limits {
            subgroup: Some((8, 32)),
            ..Limits::DEFAULT
        };
        let problem = problem(100, 1000, Storage::F32);
        let tiling = Tiling {
            lanes,
            workgroup_size: size,
            vectors_per_lane: 2,
            subgroup_min: subgroup,
            segments: 1,
        };
        Plan::with_tiling(&Config::default(), &problem, &limits, &tiling)
    };
    for (lanes, size, subgroup) in [
        (1, 1, None),
        (4, 64, None),
        (256, 256, None),
        (8, 32, Some(8)),
        (256, 256, Some(8)),
    ] {
        let plan = with(lanes, size, subgroup).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            (
                plan.variant_of(Kernel::Distill).lanes,
                plan.variant_of(Kernel::Distill).workgroup_size
            ),
            (lanes, size)
        );
    }
    let refused = [
        ("no lanes", 0, 64, None),
        ("no workgroup", 1, 0, None),
        ("no power of two", 3, 64, None),
        ("a workgroup of no power of two", 4, 96, None),
        ("more lanes than the workgroup", 128, 64, None),
        ("more than the device has", 512, 512, None),
        ("the largest numbers", u32::MAX, u32::MAX, None),
        ("half a subgroup", 8, 16, Some(8)),
        ("another subgroup", 4, 64, Some(4)),
        ("a row over some subgroups of several rows", 32, 64, Some(8)),
    ];
    for (why, lanes, size, subgroup) in refused {
        let Err(Error::Unsupported { what, .. }) = with(lanes, size, subgroup) else {
            panic!("{why}: not refused");
        };
        let numbers = [lanes, size].map(|n| n.to_string());
        assert!(numbers.iter().all(|n| what.contains(n)), "{why}: {what}");
    }
}

fn matrix(rows: usize, classes: usize) -> impl Strategy<Value = Matrix> {
    (0..3usize, 0..40usize, 0..3u64, 0..200u64, 0..20u64).prop_map(
        move |(storage, padding, shift, offset, behind)| {
            let storage = Storage::ALL[storage];
            let mut matrix = Matrix {
                storage,
                row_stride: classes + padding,
                offset: (offset << (2 * shift)) * storage.bytes() as u64,
                buffer_bytes: 0,
            };
            matrix.buffer_bytes = matrix.end(rows, classes) + behind;
            matrix
        },
    )
}

fn any_problem() -> impl Strategy<Value = Problem> {
    let rows = prop_oneof![0..50usize, 0..300_000usize];
    let classes = prop_oneof![1..300usize, 1..20_000usize];
    (rows, classes).prop_flat_map(|(rows, classes)| {
        let gradient = proptest::option::of(matrix(rows, classes));
        let inputs = [matrix(rows, classes), matrix(rows, classes)];
        (inputs, gradient, any::<bool>()).prop_map(move |([student, teacher], gradient, shared)| {
            Problem {
                shared_buffers: shared,
                ..Problem::new(rows, (student, classes), (teacher, classes), gradient)
            }
        })
    })
}

fn any_limits() -> impl Strategy<Value = Limits> {
    // A binding of 1 MiB is far below every device's limit. With less, the partial sums of the chunks would not fit.
    let numbers = (20..32u32, 4..9u32, 5..11u32, 14..17u32);
    let subgroup = proptest::option::of(proptest::sample::select(&SUBGROUPS[..]));
    (numbers, 1..70_000u32, subgroup, any::<bool>()).prop_map(
        |((binding, alignment, invocations, memory), workgroups, subgroup, software)| Limits {
            binding_bytes: (1 << binding) - 4,
            offset_alignment: 1 << alignment,
            workgroup_invocations: 1 << invocations,
            workgroup_bytes: 1 << memory,
            workgroups,
            subgroup: subgroup.filter(|(_, max)| *max <= 1 << invocations),
            software,
            ..Limits::DEFAULT
        },
    )
}

/// Random shapes, strides, offsets and limits.
///
/// Inputs that once failed are in `tests/values/plan/regressions.txt` and run first.
#[test]
fn any_plan_is_sound() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/values/plan/regressions.txt"
    );
    // The same problems every time, but new ones, and many more, in a long run.
    let (cases, rng_seed) = match crate::cases::is_long() {
        true => (200_000, RngSeed::Random),
        false => (3000, RngSeed::Fixed(1)),
    };
    let settings = ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(path))),
        rng_seed,
        ..ProptestConfig::default()
    };
    proptest!(settings, |(problem in any_problem(), limits in any_limits(), batch in any::<bool>())| {
        let config = scoped(if batch { Scope::Batch } else { Scope::Row });
        planned(&config, &problem, &limits);
    });
}

/// Values at the ends of their types. The fuzzer found that they panicked, wrapped around, or filled the memory with chunks.
#[test]
fn limits_that_no_device_has_are_refused() {
    let d = Limits::DEFAULT;
    let sizes = |subgroup| Limits { subgroup, ..d };
    let far = Limits {
        binding_bytes: u64::MAX,
        offset_alignment: 1 << 31,
        ..d
    };
    let endless = Limits {
        offset_alignment: u64::MAX,
        ..d
    };
    let narrow = Limits {
        binding_bytes: 1 << 16,
        ..d
    };
    let small = problem(4, 1000, Storage::F32);
    refusals([
        ("subgroups of 0", small, sizes(Some((0, 0)))),
        ("subgroups of 0 at most", small, sizes(Some((8, 0)))),
        ("smallest above largest", small, sizes(Some((64, 32)))),
        ("alignment beyond any binding", small, far),
        ("alignment beyond 64 bits", small, endless),
        // Two thousand million rows in chunks of one row.
        (
            "chunks beyond any memory",
            problem(i32::MAX as usize, 16_000, Storage::F32),
            narrow,
        ),
    ]);
}

#[test]
fn tilings_at_the_ends_of_their_types_are_refused() {
    let usual = Tiling {
        lanes: 64,
        workgroup_size: 64,
        vectors_per_lane: 2,
        subgroup_min: None,
        segments: 1,
    };
    let limits = Limits {
        workgroup_invocations: 1 << 31,
        workgroup_bytes: u32::MAX - 1,
        ..Limits::DEFAULT
    };
    for tiling in [
        Tiling {
            segments: u32::MAX,
            ..usual
        },
        Tiling {
            workgroup_size: 1 << 31,
            ..usual
        },
        Tiling {
            subgroup_min: Some(0),
            ..usual
        },
    ] {
        let problem = problem(4, 1000, Storage::F32);
        let plan = Plan::with_tiling(&Config::default(), &problem, &limits, &tiling);
        assert!(plan.is_err(), "{tiling:?}: {plan:?}");
    }
}
