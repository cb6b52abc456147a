//! Plans for invented devices: any limits, shapes and tilings give a sound plan or an error.

use wgpu_distill::plan::{
    LabelType, Limits, List, Lists, Matrix, Plan, PlanKind, Problem, ShardLists, ShardStep, Tiling,
};
use wgpu_distill::shader::Kernel;
use wgpu_distill::{Batch, Config, Error, Progress, Shard, reference};

use super::bytes::{self, Bytes};
use super::windows::{buffer_bytes, rows_of};

/// Usually the value of a real device, sometimes one that no device has.
fn number(from: &mut Bytes<'_>, usual: &[u64], odd: &[u64]) -> u64 {
    match from.byte() {
        0..230 => from.of(usual),
        230..244 => from.of(odd),
        244..250 => u64::from(from.u32()),
        _ => from.u64(),
    }
}

fn limits(from: &mut Bytes<'_>) -> Limits {
    let small = |from: &mut Bytes<'_>, usual: &[u64], odd: &[u64]| number(from, usual, odd) as u32;
    let subgroup = match from.byte() % 8 {
        0 => Some((
            small(from, &[32, 8, 4], &[1, 0, 3]),
            small(from, &[32, 64, 128], &[4, 0, 3]),
        )),
        1..=3 => Some(from.of(&[(4, 4), (8, 8), (32, 32), (32, 64), (8, 32), (64, 128)])),
        _ => None,
    };
    let limits = Limits {
        binding_bytes: number(
            from,
            &[128 << 20, 1 << 20, (1 << 31) - 4],
            &[1 << 16, 4096, u64::MAX, 0],
        ),
        buffer_bytes: number(from, &[256 << 20, u64::MAX], &[1 << 20, 0]),
        storage_buffers: small(from, &[8, 16], &[7]),
        offset_alignment: number(from, &[256, 16, 32], &[0, 1 << 20, u64::MAX]),
        workgroup_invocations: small(from, &[256, 1024, 768], &[128, 1, 0, 1 << 31]),
        workgroup_bytes: small(from, &[16 << 10, 48 << 10, 1 << 20], &[100, 0]),
        workgroups: small(from, &[65_535, 1 << 31], &[1, 0]),
        subgroup,
        registers: small(from, &[32, 48, 64], &[0, 8]),
        resident_registers: 0,
        software: from.byte() % 2 == 1,
    };
    Limits {
        resident_registers: 2 * limits.registers,
        ..limits
    }
}

fn matrix(from: &mut Bytes<'_>, rows: usize, classes: usize) -> Matrix {
    let mut matrix = Matrix {
        storage: bytes::storage(from),
        row_stride: if from.rarely(20) {
            from.size()
        } else {
            classes.saturating_add(from.below(9))
        },
        offset: if from.rarely(20) {
            from.u64()
        } else {
            4 * from.below(99) as u64
        },
        buffer_bytes: 0,
    };
    matrix.buffer_bytes = match from.rarely(20) {
        true => from.u64(),
        false => matrix
            .end(rows, classes)
            .saturating_add(u64::from(from.byte())),
    };
    matrix
}

fn problem(from: &mut Bytes<'_>, sampled: bool) -> Problem {
    let count = |from: &mut Bytes<'_>| match from.byte() {
        0..60 => 1 + from.below(20),
        60..130 => 1 + from.below(1 << 16),
        130..190 => from.of(&[10, 100, 1000, 4096, 32_000, 50_257, 151_936, 262_144]),
        190..240 => (from.u32() >> (from.byte() % 32)) as usize,
        _ => from.size(),
    };
    let (rows, classes) = (count(from), count(from));
    let teacher_classes = match from.rarely(8) {
        true => count(from),
        false if sampled => 1,
        false => classes,
    };
    let inputs = [
        matrix(from, rows, classes),
        matrix(from, rows, teacher_classes),
    ];
    let in_place = from.rarely(5);
    Problem {
        rows,
        classes,
        teacher_classes,
        student: inputs[0],
        teacher: inputs[1],
        gradient: match (from.rarely(5), in_place) {
            (true, _) => None,
            (_, true) => Some(inputs[0]),
            _ => Some(matrix(from, rows, classes)),
        },
        shared_buffers: from.byte() % 2 == 1,
        in_place,
        row_weights: from.rarely(4),
        class_weights: from.rarely(4),
        teacher_list: from.rarely(4),
        metrics: from.rarely(4),
        soft_labels: from.rarely(4).then(|| matrix(from, rows, classes)),
        shard: from.rarely(6).then(|| {
            let first = from.below(1000);
            Shard::new(
                first,
                first
                    .saturating_add(classes)
                    .saturating_add(from.below(1000)),
            )
        }),
    }
}

fn tiling(from: &mut Bytes<'_>, limits: &Limits) -> Tiling {
    let number = |from: &mut Bytes<'_>| match from.byte() {
        0..230 => 1 << (from.byte() % 11),
        _ => from.u32(),
    };
    let subgroup = limits.subgroup.map(|(min, _)| min);
    Tiling {
        lanes: number(from),
        workgroup_size: number(from),
        vectors_per_lane: if from.rarely(20) {
            from.u32()
        } else {
            1 + u32::from(from.byte() % 16)
        },
        subgroup_min: if from.rarely(10) {
            Some(number(from))
        } else {
            subgroup
        },
        segments: if from.rarely(3) { number(from) } else { 1 },
    }
}

/// Returns true if there is a plan.
pub fn check(bytes: &[u8]) -> Result<bool, String> {
    let from = &mut Bytes::new(bytes);
    let config = bytes::config(from);
    let (limits, problem) = (limits(from), problem(from, config.divergence.is_sampled()));
    let about = |why: String| format!("{why}\n{problem:?}\n{limits:?}");
    // Dispatches refuse a configuration that no engine accepts.
    let tiny = Batch::new(&[0.0f32], &[0.0f32], &[0], 1);
    if reference::observe(&config, &tiny).is_err() {
        return Ok(false);
    }
    let plan = if from.rarely(3) {
        let tiling = tiling(from, &limits);
        Plan::with_tiling(&config, &problem, &limits, &tiling)
    } else {
        Plan::new(&config, &problem, &limits)
    };
    match plan {
        Err(_) => Ok(false),
        Ok(plan) => {
            let lists = lists(from, &config, &problem);
            // The dispatches of thousands of chunks take thousands of times as long, so only a few such plans are listed.
            let listed = plan.chunks().len() <= 64 || from.rarely(100);
            sound(&plan, &problem, &limits)
                .and_then(|()| match listed {
                    true => dispatched(&plan, &config, &problem, &limits, &lists),
                    false => Ok(()),
                })
                .map(|()| true)
                .map_err(|why| about(format!("{why}: {plan}\n{lists:?}")))
        }
    }
}

fn lists(from: &mut Bytes<'_>, config: &Config, problem: &Problem) -> Lists {
    let rows = problem.rows;
    let step = from.of(&[ShardStep::Observe, ShardStep::Sweep, ShardStep::Apply]);
    let shards = match step {
        ShardStep::Observe => 1,
        _ => 1 + from.below(20),
    };
    let label_type = match from.rarely(4) {
        true => LabelType::I64,
        false => LabelType::I32,
    };
    let mut list = |item: u64, rows: usize, alignment: u64| {
        let offset = match from.rarely(40) {
            true => from.u64(),
            false => alignment * from.below(9) as u64,
        };
        let bytes = match from.rarely(40) {
            true => from.u64(),
            false => item * rows as u64 + u64::from(from.byte()),
        };
        List {
            offset,
            buffer_bytes: offset.saturating_add(bytes),
        }
    };
    let labels = list(label_type.bytes(), rows, label_type.bytes());
    let results = list(16, rows, 16);
    let summary = list(80, 1, 256);
    let metrics = problem.metrics.then(|| list(64, rows, 64));
    let weights = problem.row_weights.then(|| list(4, rows, 4));
    let class_weights = problem.class_weights.then(|| list(4, problem.classes, 4));
    let ids = problem
        .teacher_list
        .then(|| list(4, problem.rows * problem.teacher_classes, 4));
    let records = rows.saturating_mul(shards);
    let sums = match step {
        ShardStep::Observe => None,
        ShardStep::Sweep => Some(list(16, rows, 256)),
        ShardStep::Apply => config.sweeps_twice().then(|| list(16, records, 256)),
    };
    let shard = problem.shard.map(|_| ShardLists {
        step,
        shards: shards as u32,
        row_stats: list(224, records, 256),
        sweep_sums: sums,
    });
    Lists {
        shard,
        labels,
        label_type,
        teacher_ids: ids,
        row_results: (metrics.is_none() && !from.rarely(3)).then_some(results),
        summary: (!from.rarely(3)).then_some(summary),
        row_weights: weights,
        class_weights,
        row_metrics: metrics,
    }
}

/// Row ranges of a kernel.
type Runs = Vec<(Kernel, u64, u64)>;

/// Checks that dispatches fit the buffers and the device, and that every kernel meets every row once.
fn dispatched(
    plan: &Plan,
    config: &Config,
    problem: &Problem,
    limits: &Limits,
    lists: &Lists,
) -> Result<(), String> {
    let ensure = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
    let list = match plan.dispatches(config, Progress::new(1, 2), lists) {
        Ok(list) => list,
        // Planning accepts any numbers. Parameters refuse those that no configuration has.
        Err(
            Error::BufferTooSmall { .. }
            | Error::BufferMisaligned { .. }
            | Error::InvalidConfig { .. },
        ) => return Ok(()),
        // The statistics of all shards are one binding.
        Err(Error::LimitExceeded { .. }) if lists.shard.is_some() => return Ok(()),
        Err(e) => return Err(format!("refused: {e}")),
    };
    let workspace = plan.workspace();
    let mut kernels: Vec<Kernel> = Vec::new();
    let mut runs = Runs::new();
    for dispatch in &list {
        ensure(
            (1..=limits.workgroups).contains(&dispatch.workgroups),
            "workgroups of a dispatch",
        )?;
        let bindings = dispatch.kernel.bindings(&dispatch.variant);
        let bound = dispatch.windows.iter().map(|(binding, _)| *binding);
        ensure(
            bindings[1..].iter().copied().eq(bound),
            "a binding is missing",
        )?;
        for (_, window) in &dispatch.windows {
            let (start, bytes) = (window.offset, window.bytes);
            ensure(
                start.is_multiple_of(limits.offset_alignment),
                "an alignment",
            )?;
            ensure(bytes >= 4 && bytes.is_multiple_of(4), "whole words")?;
            ensure(bytes <= limits.binding_bytes && bytes < 1 << 31, "a window")?;
            let size = buffer_bytes(window.operand, &workspace, problem, lists);
            let size = size.checked_next_multiple_of(4).unwrap_or(u64::MAX);
            ensure(start + bytes <= size, "a window beyond its buffer")?;
            if let Some((from, to)) = rows_of(dispatch, window, problem, lists)? {
                ensure(
                    to - from == u64::from(dispatch.params.rows),
                    "rows of a window",
                )?;
                let run = (dispatch.kernel, from, to);
                if runs.last() != Some(&run) {
                    runs.push(run);
                }
            }
        }
        kernels.push(dispatch.kernel);
    }
    for kernel in plan.kernels() {
        let of_step = match lists.shard.map(|shard| shard.step) {
            None => true,
            Some(ShardStep::Observe) => kernel == Kernel::Observe,
            Some(ShardStep::Sweep) => kernel == Kernel::SecondSweep,
            Some(ShardStep::Apply) => !matches!(kernel, Kernel::Observe | Kernel::SecondSweep),
        };
        ensure(
            problem.rows == 0 || !of_step || kernels.contains(&kernel),
            "a kernel of the plan is not dispatched",
        )?;
        let own = runs.iter().filter(|(other, ..)| *other == kernel);
        let end = own
            .clone()
            .try_fold(0, |next, &(_, from, to)| (from == next).then_some(to));
        let all = own.clone().count() == 0 || end == Some(problem.rows as u64);
        ensure(all, "a kernel leaves rows out, or meets them twice")?;
    }
    Ok(())
}

/// Checks that the plan covers every row once and stays within the device's limits.
fn sound(plan: &Plan, problem: &Problem, limits: &Limits) -> Result<(), String> {
    let ensure = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
    // A plan is a list, which must fit in host memory.
    ensure(plan.chunks().len() <= 1 << 16, "too many chunks")?;
    let mut next = 0;
    let mut groups = 0;
    for chunk in plan.chunks() {
        ensure(
            chunk.rows.start == next && !chunk.rows.is_empty(),
            "chunks do not follow each other",
        )?;
        next = chunk.rows.end;
        groups += u64::from(chunk.workgroups.max(chunk.row_workgroups));
        for n in [chunk.workgroups, chunk.row_workgroups] {
            ensure((1..=limits.workgroups).contains(&n), "workgroups")?;
        }
        let matrices = [
            Some((problem.student, problem.classes)),
            Some((problem.teacher, problem.teacher_classes)),
            problem.gradient.map(|g| (g, problem.classes)),
            problem.soft_labels.map(|y| (y, problem.classes)),
        ];
        for (m, classes) in matrices.into_iter().flatten() {
            let size = m.storage.bytes() as u64;
            let rows = chunk.rows.len() as u64;
            let bytes = ((rows - 1) * m.row_stride as u64 + classes as u64) * size;
            // A binding starts at a multiple of the alignment and ends at one of 16.
            let most = bytes + limits.offset_alignment + 15;
            ensure(most <= limits.binding_bytes && most < 1 << 31, "a binding")?;
        }
        let in_steps = plan.kind() == PlanKind::Split || plan.kind() == PlanKind::TwoPhase;
        let each = if in_steps {
            64 * u64::from(plan.segments())
        } else {
            16
        };
        ensure(
            each * chunk.rows.len() as u64 <= limits.binding_bytes,
            "statistics or results",
        )?;
    }
    ensure(next == problem.rows, "rows are left out")?;
    ensure(48 * groups <= limits.binding_bytes, "partial sums")?;
    for kernel in plan.kernels() {
        let variant = plan.variant_of(kernel);
        let bytes = kernel.workgroup_bytes(&variant);
        ensure(bytes <= limits.workgroup_bytes, "workgroup memory")?;
        ensure(
            variant.workgroup_size <= limits.workgroup_invocations,
            "invocations",
        )?;
        ensure(
            variant.lanes.is_power_of_two() && variant.lanes <= variant.workgroup_size,
            "lanes",
        )?;
        ensure(
            (1..=16).contains(&variant.vectors_per_lane),
            "vectors per lane",
        )?;
    }
    let rows = problem.rows as u64;
    // Each chunk starts at an alignment of its own.
    let chunks = 4 * limits.offset_alignment.max(256) * plan.chunks().len() as u64;
    let most = 460 * rows * u64::from(plan.segments()) + 96 * groups + chunks + 4096;
    ensure(
        plan.workspace_bytes() <= most,
        &format!(
            "{} bytes of workspace, at most {most}",
            plan.workspace_bytes()
        ),
    )
}
