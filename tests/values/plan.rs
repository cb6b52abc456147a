//! Plans are a pure function of the problem and the limits, so this file tests them for invented devices.
//!
//! Every row is covered once, bindings and workgroups fit the limits, and memory is in proportion to the rows.

use wgpu_distill::plan::{LabelType, Limits, List, Lists, Operand, Plan, PlanKind, Problem};
use wgpu_distill::shader::{Access, Kernel};
use wgpu_distill::{
    Config, Decision, Divergence, HardTemperature, Progress, Reduction, RowStats, Scope, Selection,
    Similarity, Storage,
};

mod counts;
mod hostile;
mod sampled;
mod soft_labels;

use crate::problems::problem;

/// Usual class counts: small sets, ImageNet, and the vocabularies of current models.
const CLASSES: [usize; 16] = [
    1, 2, 10, 100, 192, 668, 1000, 1024, 1128, 4096, 32_000, 32_768, 50_257, 128_256, 151_936,
    262_144,
];

/// Smallest and largest subgroup: llvmpipe, older Intel, NVIDIA and Apple, AMD, Intel, Adreno.
const SUBGROUPS: [(u32, u32); 6] = [(4, 4), (8, 8), (32, 32), (32, 64), (8, 32), (64, 128)];

fn scoped(scope: Scope) -> Config {
    Config {
        scope,
        ..Config::default()
    }
}

fn default_plan(rows: usize, classes: usize) -> Plan {
    let problem = problem(rows, classes, Storage::F32);
    let plan = Plan::new(&Config::default(), &problem, &Limits::DEFAULT);
    plan.unwrap_or_else(|e| panic!("({rows}, {classes}): {e}"))
}

/// The size in bytes of a binding that contains `[offset, end)`.
///
/// A binding starts at a multiple of the alignment and ends at a multiple of 16.
fn binding(offset: u64, end: u64, limits: &Limits) -> u64 {
    end.next_multiple_of(16) - offset / limits.offset_alignment * limits.offset_alignment
}

/// Fails unless the plan has the properties that every plan must have.
fn check(plan: &Plan, config: &Config, problem: &Problem, limits: &Limits) {
    let about = format!("{plan}, {problem:?}, {limits:?}");
    // Sampled tokens have no rows of the teacher.
    let teacher = Some(problem.teacher).filter(|_| !config.divergence.is_sampled());
    let matrices = [Some(problem.student), teacher, problem.gradient];
    let mut next = 0;
    for chunk in plan.chunks() {
        assert_eq!(chunk.rows.start, next, "chunks follow each other: {about}");
        assert!(!chunk.rows.is_empty(), "{about}");
        next = chunk.rows.end;
        for groups in [chunk.workgroups, chunk.row_workgroups] {
            assert!((1..=limits.workgroups).contains(&groups), "{about}");
        }
        let mut bindings = Vec::new();
        for matrix in matrices.into_iter().flatten() {
            let row = matrix.row_stride as u64 * matrix.storage.bytes() as u64;
            let start = matrix.offset + chunk.rows.start as u64 * row;
            let classes = problem.classes as u64 * matrix.storage.bytes() as u64;
            let end = matrix.offset + (chunk.rows.end as u64 - 1) * row + classes;
            bindings.push(binding(start, end, limits));
        }
        // Labels, row results; in two phases also statistics and decisions.
        let (start, end) = (chunk.rows.start as u64, chunk.rows.end as u64);
        bindings.push(binding(4 * start, 4 * end, limits));
        bindings.push(binding(16 * start, 16 * end, limits));
        if plan.kind() == PlanKind::TwoPhase {
            bindings.push(binding(
                0,
                size_of::<RowStats>() as u64 * (end - start),
                limits,
            ));
            bindings.push(binding(
                0,
                size_of::<Decision>() as u64 * (end - start),
                limits,
            ));
        }
        let largest = bindings.into_iter().max().expect("some");
        assert!(
            largest <= limits.binding_bytes,
            "{chunk:?} binds {largest}: {about}"
        );
        // Kernels use 32-bit element indices. Some backends use 31-bit byte sizes.
        assert!(largest < 1 << 31, "{chunk:?} binds {largest}: {about}");
    }
    assert_eq!(next, problem.rows, "every row: {about}");
    for kernel in plan.kernels() {
        let variant = plan.variant_of(kernel);
        let bytes = kernel.workgroup_bytes(&variant);
        assert!(bytes <= limits.workgroup_bytes, "{kernel:?}, {about}");
        let (size, lanes) = (variant.workgroup_size, variant.lanes);
        assert!(size <= limits.workgroup_invocations, "{kernel:?}, {about}");
        assert!(
            lanes.is_power_of_two() && size.is_power_of_two() && lanes <= size,
            "{about}"
        );
        if let Some(min) = variant.subgroup_min {
            let (smallest, largest) = limits.subgroup.expect("a device with subgroups");
            assert_eq!(min, smallest, "{about}");
            assert!(
                size.is_multiple_of(largest),
                "whole subgroups of any size: {about}"
            );
            assert!(lanes <= min || lanes == size, "{about}");
        }
        if variant.access == Access::Vec4 {
            for matrix in matrices.into_iter().flatten() {
                let unit = 4 * matrix.storage.bytes() as u64;
                assert!(matrix.row_stride.is_multiple_of(4), "{about}");
                assert!(matrix.offset.is_multiple_of(unit), "{about}");
            }
        }
    }
    assert_eq!(
        plan.kind() == PlanKind::Split,
        plan.segments() > 1,
        "{about}"
    );
    let in_steps = plan.kernels().contains(&Kernel::Decide);
    let wanted = config.scope == Scope::Batch || plan.kind() == PlanKind::Split;
    assert_eq!(in_steps, wanted, "{about}");
    // The segments of all rows together are at most 256.
    assert!(plan.segments() == 1 || plan.segments() as usize * problem.rows <= 256);
    // Statistics, decision and partial summary of each row, alignment of each chunk, statistics of segments.
    let chunks = 256 * plan.chunks().len() as u64;
    let most = 408 * problem.rows as u64 + chunks + 4096 + 256 * 256;
    assert!(
        plan.workspace_bytes() <= most,
        "{} bytes: {about}",
        plan.workspace_bytes()
    );
}

fn planned(config: &Config, problem: &Problem, limits: &Limits) -> Plan {
    let plan = Plan::new(config, problem, limits);
    let plan = plan.unwrap_or_else(|e| panic!("{e}: {problem:?}, {limits:?}"));
    check(&plan, config, problem, limits);
    plan
}

/// Devices with default limits and with the limits of large GPUs, of every subgroup size, and llvmpipe.
fn devices() -> Vec<Limits> {
    let large = Limits {
        binding_bytes: (1 << 31) - 4,
        offset_alignment: 16,
        workgroup_invocations: 1024,
        workgroup_bytes: 48 << 10,
        ..Limits::DEFAULT
    };
    let mut list = vec![Limits::DEFAULT, large];
    for base in [Limits::DEFAULT, large] {
        for pair in SUBGROUPS {
            for software in [false, true] {
                list.push(Limits {
                    subgroup: Some(pair),
                    software,
                    ..base
                });
            }
        }
    }
    list.push(Limits {
        software: true,
        ..Limits::DEFAULT
    });
    list
}

/// Every class count, one less and one more, with every storage type, similarity and scope, on every device.
#[test]
fn plans_are_sound_on_every_device() {
    let mut plans = 0;
    for limits in devices() {
        for classes in CLASSES {
            for classes in [classes - 1, classes, classes + 1] {
                if classes == 0 {
                    continue;
                }
                for storage in Storage::ALL {
                    for similarity in Similarity::ALL {
                        for scope in [Scope::Row, Scope::Batch, Scope::Given(0.5)] {
                            let config = Config {
                                similarity,
                                ..scoped(scope)
                            };
                            planned(&config, &problem(77, classes, storage), &limits);
                            plans += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(plans > 50_000, "{plans}");
}

/// Metrics and class weights need more workgroup memory; the default limits have enough for every loss.
#[test]
fn every_loss_fits_the_default_limits() {
    let mut class_weighted = 0;
    for divergence in Divergence::ALL {
        for (classes, rows) in CLASSES
            .into_iter()
            .flat_map(|n| [(n, 1), (n, 77), (n, 4096)])
        {
            for similarity in Similarity::ALL {
                for scope in [Scope::Row, Scope::Batch] {
                    let config = Config {
                        divergence,
                        similarity,
                        hard_temperature: HardTemperature::Own(1.0),
                        label_smoothing: 0.1,
                        selection: Selection::Fixed(0.5),
                        ..scoped(scope)
                    };
                    let sampled = divergence.is_sampled();
                    if sampled && scope == Scope::Batch {
                        continue;
                    }
                    let with_metrics = Problem {
                        metrics: true,
                        row_weights: true,
                        teacher_classes: if sampled { 1 } else { classes },
                        ..problem(rows, classes, Storage::F32)
                    };
                    planned(&config, &with_metrics, &Limits::DEFAULT);
                    let with_class_weights = Problem {
                        class_weights: true,
                        ..with_metrics
                    };
                    // Some losses have no class weights.
                    let plan = Plan::new(&config, &with_class_weights, &Limits::DEFAULT);
                    if let Ok(plan) = plan {
                        check(&plan, &config, &with_class_weights, &Limits::DEFAULT);
                        class_weighted += 1;
                    }
                }
            }
        }
    }
    assert!(class_weighted > 1000, "{class_weighted}");
}

/// Batches that exceed one dispatch or one binding.
#[test]
fn large_batches_are_cut_into_chunks() {
    // Rows, classes, and chunks with default limits: 128 MiB, less the cost of alignment.
    let cases = [
        ("more rows than workgroups in a dimension", 65_536, 10, 1),
        ("far more rows than that", 1_150_000, 4, 1),
        ("just a binding", 32_767, 1024, 1),
        ("a byte more than a binding", 32_768, 1024, 2),
        ("the 160 MB of the device test", 40_000, 1000, 2),
        ("rows x classes beyond 2^31", 20_000, 151_936, 91),
        ("rows x classes beyond 2^32", 40_000, 128_256, 154),
        ("a row of 1 MiB", 1000, 262_144, 8),
    ];
    for (why, rows, classes, chunks) in cases {
        let plan = planned(
            &Config::default(),
            &problem(rows, classes, Storage::F32),
            &Limits::DEFAULT,
        );
        assert_eq!(plan.chunks().len(), chunks, "{why}: {plan}");
        let half = planned(
            &Config::default(),
            &problem(rows, classes, Storage::F16),
            &Limits::DEFAULT,
        );
        assert!(half.chunks().len() <= chunks, "{why}, 16 bits: {half}");
        planned(
            &scoped(Scope::Batch),
            &problem(rows, classes, Storage::F32),
            &Limits::DEFAULT,
        );
    }
}

/// The size of a chunk depends on the row stride, since padding is bound too.
#[test]
fn strides_and_offsets_count() {
    let mut padded = problem(1000, 1000, Storage::F32);
    padded.student.row_stride = 100_000;
    padded.student.offset = 252;
    padded.student.buffer_bytes = padded.student.end(1000, 1000);
    let plan = planned(&Config::default(), &padded, &Limits::DEFAULT);
    assert!(plan.chunks().len() >= 3, "{plan}");
    assert_eq!(
        plan.variant_of(Kernel::Distill).access,
        Access::Element,
        "an offset between two vectors"
    );
}

/// The choice between `Access::Vec4` and `Access::Element`.
#[test]
fn access_is_by_four_only_where_every_row_starts_at_one() {
    let case = |change: fn(&mut Problem)| {
        let mut problem = problem(8, 12, Storage::F32);
        change(&mut problem);
        planned(&Config::default(), &problem, &Limits::DEFAULT)
            .variant_of(Kernel::Distill)
            .access
    };
    assert_eq!(case(|_| ()), Access::Vec4);
    assert_eq!(case(|p| p.student.row_stride = 13), Access::Element);
    assert_eq!(case(|p| p.teacher.offset = 4), Access::Element);
    assert_eq!(
        case(|p| p.gradient.as_mut().unwrap().offset = 8),
        Access::Element
    );
    // 10 classes end within a vector that the buffer does not contain completely.
    let mut short = problem(8, 10, Storage::F32);
    for matrix in [
        &mut short.student,
        &mut short.teacher,
        short.gradient.as_mut().unwrap(),
    ] {
        matrix.row_stride = 12;
        matrix.buffer_bytes = matrix.end(8, 10);
    }
    let plan = planned(&Config::default(), &short, &Limits::DEFAULT);
    assert_eq!(plan.variant_of(Kernel::Distill).access, Access::Element);
    // Eight bytes are a vector of 16-bit numbers.
    let mut half = problem(8, 12, Storage::Bf16);
    half.student.offset = 8;
    half.student.buffer_bytes += 8;
    let plan = planned(&Config::default(), &half, &Limits::DEFAULT);
    assert_eq!(plan.variant_of(Kernel::Distill).access, Access::Vec4);
}

/// Small batches need two dispatches.
#[test]
fn small_batches_take_two_dispatches() {
    for limits in devices() {
        for (rows, classes) in [(128, 10), (1, 1), (1024, 100), (256, 1000)] {
            for reduction in [Reduction::Mean, Reduction::Sum, Reduction::SumOver(8.0)] {
                let config = Config {
                    reduction,
                    ..Config::default()
                };
                let plan = planned(&config, &problem(rows, classes, Storage::F32), &limits);
                assert_eq!(plan.chunks().len(), 1);
                assert_eq!(plan.kernels(), [Kernel::Distill, Kernel::Summary], "{plan}");
            }
        }
    }
    let batch = planned(
        &scoped(Scope::Batch),
        &problem(128, 10, Storage::F32),
        &Limits::DEFAULT,
    );
    assert_eq!(
        batch.kernels().len(),
        5,
        "observe, its summary, decide, apply, summary"
    );
    assert!(
        planned(
            &Config::default(),
            &problem(0, 10, Storage::F32),
            &Limits::DEFAULT
        )
        .chunks()
        .is_empty()
    );
}

/// The kernels of a chunk index its statistics from 0, so chunks must not share a part of the buffer.
#[test]
fn chunks_have_statistics_of_their_own() {
    let problem = problem(1000, 1000, Storage::F32);
    let limits = Limits {
        binding_bytes: 64 << 10,
        ..Limits::DEFAULT
    };
    let config = scoped(Scope::Batch);
    let plan = planned(&config, &problem, &limits);
    assert!(plan.chunks().len() > 10, "{plan}");
    let list = List::new(1 << 20);
    let lists = Lists {
        labels: list,
        label_type: LabelType::I32,
        row_results: None,
        summary: None,
        shard: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
        row_metrics: None,
    };
    let dispatches = plan.dispatches(&config, Progress::new(1, 2), &lists);
    let dispatches = dispatches.expect("a valid call");
    for kernel in [Kernel::Observe, Kernel::Decide] {
        let of_chunks = dispatches.iter().filter(|d| d.kernel == kernel);
        let mut end = 0;
        for (dispatch, chunk) in of_chunks.zip(plan.chunks()) {
            let mut windows = dispatch.windows.iter().map(|(_, window)| window);
            let own = windows.find(|w| w.operand == Operand::RowStats);
            let own = own.expect("the kernel binds them");
            assert!(
                own.offset >= end && own.offset.is_multiple_of(256),
                "{own:?}"
            );
            let bytes = (size_of::<RowStats>() * chunk.rows.len()) as u64;
            assert_eq!(own.bytes, bytes, "{own:?}");
            end = own.offset + own.bytes;
        }
        let mut buffers = plan.workspace().into_iter();
        let buffer = buffers.find(|(operand, _)| *operand == Operand::RowStats);
        assert!(buffer.is_some_and(|(_, bytes)| bytes >= end), "{buffer:?}");
    }
}

#[test]
fn workspace_is_in_proportion_to_the_rows() {
    let bytes = |rows, classes, scope| {
        let problem = problem(rows, classes, Storage::F32);
        let limits = Limits {
            binding_bytes: (1 << 31) - 4,
            ..Limits::DEFAULT
        };
        planned(&scoped(scope), &problem, &limits).workspace_bytes()
    };
    for scope in [Scope::Row, Scope::Batch] {
        for rows in [1, 128, 1000, 100_000] {
            let many = bytes(rows, 262_144, scope);
            let segments = 240 * 256;
            assert!(
                many <= 360 * rows as u64 + 50 * 256 + 4096 + segments,
                "{rows} rows: {many}"
            );
        }
    }
    let without = bytes(100_000, 1000, Scope::Row);
    // 48 bytes for each workgroup of eight rows or more, and for each that counts 4,096 labels.
    assert!(
        without < 48 * 100_000 / 8 + 48 * 100_000 / 4096 + 1024,
        "one dispatch keeps sums of workgroups only: {without}"
    );
}

#[test]
fn plans_say_what_they_are() {
    let text = |rows, classes| default_plan(rows, classes).to_string();
    assert!(text(128, 10).starts_with("packed: "), "{}", text(128, 10));
    assert!(
        text(1000, 50_257).starts_with("streaming: "),
        "{}",
        text(1000, 50_257)
    );
    assert!(
        text(100, 4096).starts_with("resident: "),
        "{}",
        text(100, 4096)
    );
    assert!(
        text(4, 50_257).starts_with("split: "),
        "{}",
        text(4, 50_257)
    );
    assert!(
        text(40_000, 1000).ends_with("2 chunks"),
        "{}",
        text(40_000, 1000)
    );
    assert!(text(0, 10).ends_with("no rows"), "{}", text(0, 10));
}
