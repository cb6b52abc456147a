//! Chooses kernels and their variants.

use super::chunks::{Chunk, check_partials, chunks, row_workgroups, workgroups};
use super::limits::{Limits, check_limits, check_storage_buffers};
use super::lists::{DECISION_BYTES, ROW_STATS_BYTES, SUMMARY_BYTES, SWEEP_SUMS_BYTES};
use super::operand::{Operand, Window};
use super::problem::Problem;
use super::tiling::{Tiling, check_workgroup};
use crate::rule::ClassWeights;
use crate::shader::{Access, BindingKind, Kernel, LossVariant, Variant};
use crate::validate::listed::Beside;
use crate::{Config, Error, GradWrite, Reduction, Result, Scope, TeacherTail, validate};

/// The distribution of observe, decide and apply over workgroups and dispatches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlanKind {
    /// One dispatch. A few lanes own a row, and several rows share a workgroup.
    Packed,
    /// One dispatch. A workgroup owns a row, reads it once and keeps it in registers.
    Resident,
    /// One dispatch. A workgroup owns a row and keeps its end in registers. It reads the rest twice, the second time in reverse.
    Streaming,
    /// Several workgroups own a row, each a segment. The statistics of the segments are merged before decide and apply.
    Split,
    /// Observe, decide and apply in separate dispatches, all on the device.
    TwoPhase,
}

impl PlanKind {
    fn of(problem: &Problem, variant: &Variant, segments: u32, two_phase: bool) -> Self {
        if segments > 1 {
            Self::Split
        } else if two_phase || problem.shard.is_some() {
            Self::TwoPhase
        } else if variant.lanes < variant.workgroup_size {
            Self::Packed
        } else if is_one_tile(problem, variant) {
            Self::Resident
        } else {
            Self::Streaming
        }
    }

    /// Returns true if observe, decide and apply are separate dispatches.
    fn in_steps(self) -> bool {
        matches!(self, Self::Split | Self::TwoPhase)
    }

    /// The kernel that sums the classes of a row. Of those with several lanes a row it needs the most workgroup memory.
    fn summing(self) -> Kernel {
        match self.in_steps() {
            true => Kernel::Observe,
            false => Kernel::Distill,
        }
    }
}

/// Returns true if a tile holds every row.
fn is_one_tile(problem: &Problem, variant: &Variant) -> bool {
    // A row of a 16-bit gradient may start within a word, and then covers up to one more vector.
    let halves = problem.gradient.is_some_and(|g| g.storage.bytes() == 2);
    let misaligned = halves && variant.access == Access::Element;
    let vectors = (problem.classes as u64 + u64::from(misaligned)).div_ceil(4);
    vectors <= u64::from(variant.vectors_per_lane) * u64::from(variant.lanes)
}

/// The choices of a configuration that a plan depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choices {
    loss: LossVariant,
    class_weights: ClassWeights,
    teacher_tail: TeacherTail,
    accumulate: bool,
    two_phase: bool,
    counts_rows: bool,
}

impl Choices {
    fn of(config: &Config) -> Self {
        Self {
            loss: LossVariant::of(config),
            class_weights: ClassWeights::of(config),
            teacher_tail: config.teacher_tail,
            accumulate: config.grad_write == GradWrite::Accumulate,
            two_phase: config.scope == Scope::Batch,
            counts_rows: config.reduction == Reduction::Mean,
        }
    }

    /// The choices of the loss with the metrics, weights and soft labels that a problem has.
    fn loss_of(&self, problem: &Problem) -> LossVariant {
        let mut loss = self.loss;
        if problem.class_weights {
            loss = loss.with_class_weights(self.class_weights);
        }
        if problem.teacher_list {
            loss = loss.with_list(self.teacher_tail);
        }
        if problem.soft_labels.is_some() {
            loss = loss.with_soft_labels();
        }
        match problem.metrics {
            true => loss.with_metrics(),
            false => loss,
        }
    }
}

/// The kernels, workgroups and chunks for a problem, made by [`Plan::new`] or [`Gpu::plan`](crate::gpu::Gpu::plan). `{}` prints it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(super) kind: PlanKind,
    /// The variant of the kernels in which several lanes may own a row.
    pub(super) variant: Variant,
    /// The variant of `decide`, `valid_rows` and `summary`.
    pub(super) row_variant: Variant,
    pub(super) chunks: Vec<Chunk>,
    pub(super) segments: u32,
    /// Labels that each workgroup counts itself. 0 if no count is needed, or if `valid_rows` counts.
    pub(super) count_labels: u32,
    /// The rows whose labels each dispatch of `valid_rows` counts before all others.
    pub(super) counted_first: Vec<Chunk>,
    pub(super) problem: Problem,
    choices: Choices,
    pub(super) offset_alignment: u64,
    pub(super) largest_binding: u64,
}

/// Workgroup size of the kernels in which one invocation owns a row.
fn row_workgroup_size(limits: &Limits) -> u32 {
    let size = if limits.software { 16 } else { 128 };
    size.min(1 << limits.workgroup_invocations.ilog2())
}

/// Slots of the table of a row's list: about four for each entry, so that most vectors of a row find an empty slot at once.
fn list_slots(entries: usize) -> u32 {
    let entries = entries.clamp(1, validate::listed::MOST_ENTRIES) as u32;
    (4 * entries).next_power_of_two().clamp(16, 2048)
}

/// The variant of the kernels in which several lanes may own a row, before the plan's kind is known.
fn variant_of(choices: Choices, problem: &Problem, tiling: &Tiling) -> Variant {
    Variant {
        student: problem.student.storage,
        teacher: problem.teacher.storage,
        gradient: problem.gradient.map(|g| g.storage),
        access: problem.access(!choices.loss.sampled && !problem.teacher_list),
        loss: choices.loss_of(problem),
        accumulate: choices.accumulate && problem.gradient.is_some(),
        shared_buffers: problem.shared_buffers,
        in_place: problem.in_place && problem.gradient.is_some(),
        soft_labels: problem.soft_labels.map(|y| y.storage),
        row_weights: problem.row_weights,
        sharded: problem.shard.is_some(),
        list_slots: match problem.teacher_list {
            true => list_slots(problem.teacher_classes),
            false => 0,
        },
        workgroup_size: tiling.workgroup_size,
        lanes: tiling.lanes,
        vectors_per_lane: tiling.vectors_per_lane,
        one_tile: false,
        one_group: false,
        subgroup_min: tiling.subgroup_min,
    }
}

impl Plan {
    /// The plan for a problem on a device with these limits.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if a single row exceeds the largest binding, or if there are too many chunks.
    pub fn new(config: &Config, problem: &Problem, limits: &Limits) -> Result<Self> {
        let tiling = Self::tiling(config, problem, limits);
        Self::with_tiling(config, problem, limits, &tiling)
    }

    /// The tiling of [`new`](Self::new): that of the shape, with tiles that the loss has registers for and with workgroups whose sums fit in
    /// the device's memory.
    pub(crate) fn tiling(config: &Config, problem: &Problem, limits: &Limits) -> Tiling {
        let mut limits = *limits;
        if problem.soft_labels.is_some() {
            // A lane keeps vectors of three matrices instead of two.
            limits.registers = limits.registers / 3 * 2;
            limits.resident_registers = limits.resident_registers / 3 * 2;
        }
        let mut tiling = Tiling::for_shape(problem.rows, problem.classes, &limits);
        if tiling.vectors_per_lane > 8 && LossVariant::of(config).has_heavy_sweep() {
            let fewer = Limits {
                registers: limits.registers.min(32),
                ..limits
            };
            tiling = Tiling::for_shape(problem.rows, problem.classes, &fewer);
        }
        if LossVariant::of(config).standardized || problem.shard.is_some() {
            tiling.segments = 1;
        }
        let choices = Choices::of(config);
        let bytes = |tiling: &Tiling| {
            let variant = variant_of(choices, problem, tiling);
            let kind = PlanKind::of(problem, &variant, tiling.segments, choices.two_phase);
            kind.summing().workgroup_bytes(&variant)
        };
        tiling.within_memory(&limits, bytes)
    }

    /// The plan with a tiling chosen by the caller.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if a single row exceeds the largest binding, or if there are too many chunks.
    /// [`Error::Unsupported`] if the device cannot run such workgroups.
    pub fn with_tiling(
        config: &Config,
        problem: &Problem,
        limits: &Limits,
        tiling: &Tiling,
    ) -> Result<Self> {
        check_limits(limits)?;
        validate::mean(config, problem.rows)?;
        if problem.teacher_list {
            validate::listed::sizes(problem.classes, problem.teacher_classes)?;
            let beside = Beside {
                class_weights: problem.class_weights,
                soft_labels: problem.soft_labels.is_some(),
                metrics: problem.metrics,
            };
            validate::listed::choices(config, beside)?;
        } else {
            validate::sampled::teacher(config, problem.teacher_classes)?;
        }
        if problem.class_weights {
            validate::class_weighting(config)?;
        }
        if let Some(shard) = problem.shard {
            validate::shards::standardization(config)?;
            validate::shards::inputs(problem.class_weights, problem.teacher_list)?;
            let teacher = problem.teacher_classes;
            validate::shards::teacher_columns(config, problem.classes, teacher)?;
            validate::shards::range(shard, problem.rows, problem.classes)?;
        }
        for (matrix, classes) in problem.matrices() {
            validate::shape("logits", problem.rows, classes, matrix.row_stride)?;
        }
        if problem.soft_labels.is_some() {
            validate::soft_labels::choices(config, problem.class_weights)?;
        }
        let choices = Choices::of(config);
        let in_place = problem.in_place && problem.gradient.is_some();
        if in_place && choices.accumulate {
            return Err(Error::Unsupported {
                what: "`GradWrite::Accumulate` with the gradient in place of the student's logits"
                    .to_owned(),
                why: "the gradient would be added to the logits; use `Overwrite`, or a buffer for the gradient",
            });
        }
        if tiling.segments > 1 && problem.shard.is_some() {
            return Err(Error::Unsupported {
                what: "segments of a row with classes in shards".to_owned(),
                why: "the shards are the segments of their row; use one segment",
            });
        }
        if tiling.segments > 1 && choices.loss.standardized {
            return Err(Error::Unsupported {
                what: "`Standardization::ZScore` with rows in segments".to_owned(),
                why: "each segment would need the standard deviation of the row; use one segment",
            });
        }
        let mut variant = variant_of(choices, problem, tiling);
        let row_variant = Variant {
            workgroup_size: row_workgroup_size(limits),
            lanes: 1,
            vectors_per_lane: 1,
            subgroup_min: None,
            ..variant
        };
        let segments = tiling.segments.max(1);
        let kind = PlanKind::of(problem, &variant, segments, choices.two_phase);
        check_workgroup(kind.summing(), &variant, limits)?;
        // Of the kernels in which one invocation owns a row, `decide` needs the most memory.
        check_workgroup(Kernel::Decide, &row_variant, limits)?;
        let in_steps = kind.in_steps();
        let counts = choices.counts_rows && !in_steps;
        let (chunks, counted_first) = chunks(
            problem,
            limits,
            &variant,
            &row_variant,
            segments,
            in_steps,
            counts,
        )?;
        let inline = counts && counted_first.is_empty();
        let rows_each = (variant.workgroup_size / variant.lanes) as usize;
        let covers = |c: &Chunk| c.rows.len() <= rows_each * c.workgroups as usize;
        variant.one_tile = is_one_tile(problem, &variant);
        variant.one_group = chunks.iter().all(covers);
        let plan = Self {
            kind,
            variant,
            row_variant,
            count_labels: if inline { problem.rows as u32 } else { 0 },
            counted_first,
            chunks,
            segments,
            problem: *problem,
            choices,
            offset_alignment: limits.offset_alignment,
            largest_binding: limits.largest_binding(),
        };
        for kernel in plan.kernels() {
            let needed = plan.storage_buffers(kernel);
            check_storage_buffers(u64::from(needed), limits)?;
        }
        for (operand, bytes) in plan.workspace() {
            let what = "the size of a workspace buffer in bytes";
            validate::within(what, bytes, limits.buffer_bytes)?;
            if operand == Operand::Partials {
                check_partials(bytes, limits)?;
            }
        }
        Ok(plan)
    }

    /// The distribution of observe, decide and apply over dispatches.
    pub fn kind(&self) -> PlanKind {
        self.kind
    }

    /// The chunks, in the order of the rows.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Segments of a row.
    pub fn segments(&self) -> u32 {
        self.segments
    }

    /// Returns true if the plan was made for this problem and these choices.
    #[cfg(feature = "gpu")]
    pub(crate) fn is_for(&self, config: &Config, problem: &Problem) -> bool {
        self.problem == *problem && self.has_choices_of(config)
    }

    /// Returns true if the plan was made for these choices.
    pub(super) fn has_choices_of(&self, config: &Config) -> bool {
        self.choices == Choices::of(config)
    }

    /// The kernels in the order of their dispatches; those between `ValidRows` and the last `Summary` run once per chunk.
    pub fn kernels(&self) -> Vec<Kernel> {
        let mut list = Vec::new();
        if !self.counted_first.is_empty() {
            list.push(Kernel::ValidRows);
        }
        if self.in_steps() {
            list.push(Kernel::Observe);
            if self.observes_parts() {
                list.extend(self.sweeps_parts().then_some(Kernel::SecondSweep));
                list.push(Kernel::MergeRowStats);
            }
            list.extend([Kernel::Summary, Kernel::Decide]);
            if self.variant.gradient.is_some() {
                list.push(Kernel::Apply);
            }
        } else {
            list.push(Kernel::Distill);
        }
        list.push(Kernel::Summary);
        list
    }

    /// Returns true if observe, decide and apply are separate dispatches.
    pub(super) fn in_steps(&self) -> bool {
        self.kind.in_steps()
    }

    /// Returns true if `observe` gives the statistics of parts of a row: segments, or a slice of the classes.
    pub(super) fn observes_parts(&self) -> bool {
        self.kind == PlanKind::Split || self.problem.shard.is_some()
    }

    /// Returns true if similarity or divergence need a second sweep over the parts of rows. That over the classes of a list is part of
    /// the merge.
    pub(super) fn sweeps_parts(&self) -> bool {
        let sweeps = self.variant.loss.second_sweep && !self.problem.teacher_list;
        self.observes_parts() && sweeps
    }

    /// Vectors of four classes in a segment of a row.
    pub(super) fn segment_vectors(&self) -> u32 {
        if self.segments == 1 {
            return u32::MAX;
        }
        (self.problem.classes / 4 + 2).div_ceil(self.segments as usize) as u32
    }

    /// The temporary buffers of the plan and the size of each in bytes, at most proportional to the number of rows.
    pub fn workspace(&self) -> [(Operand, u64); 7] {
        let counted = workgroups(&self.chunks) + row_workgroups(&self.counted_first);
        let most = counted.max(row_workgroups(&self.chunks));
        let last = self.chunks.last().map(|chunk| self.row_stats(chunk));
        let row_stats = last.map_or(0, |window| window.offset + window.bytes);
        // The workspace holds the decisions and segments of one chunk at a time.
        let longest = self.chunks.iter().map(|c| c.rows.len() as u64).max();
        let longest = longest.unwrap_or(0);
        let segments = u64::from(self.segments) * longest;
        let only = |needed: bool, bytes: u64| if needed { bytes.max(64) } else { 64 };
        [
            (
                Operand::Partials,
                only(true, self.problem.partial_bytes() * most),
            ),
            (Operand::RowStats, only(self.in_steps(), row_stats)),
            (
                Operand::Decisions,
                only(self.in_steps(), DECISION_BYTES * longest),
            ),
            (
                Operand::SegmentStats,
                only(self.segments > 1, ROW_STATS_BYTES * segments),
            ),
            (
                Operand::SweepSums,
                only(
                    self.segments > 1 && self.sweeps_parts(),
                    SWEEP_SUMS_BYTES * segments,
                ),
            ),
            (Operand::StatsSummary, SUMMARY_BYTES),
            (Operand::Placeholder, SUMMARY_BYTES),
        ]
    }

    /// The row statistics of a chunk. Each chunk's start at a multiple of the device's alignment, which need not be one of their size.
    pub(super) fn row_stats(&self, chunk: &Chunk) -> Window {
        let bytes = |rows: usize| ROW_STATS_BYTES * rows as u64;
        let longest = self.chunks.first().map_or(0, |first| first.rows.len());
        let stride = bytes(longest).next_multiple_of(self.offset_alignment);
        Window {
            operand: Operand::RowStats,
            offset: (chunk.rows.start / longest.max(1)) as u64 * stride,
            bytes: bytes(chunk.rows.len()),
        }
    }

    /// Total bytes of the temporary buffers, at most proportional to the number of rows.
    pub fn workspace_bytes(&self) -> u64 {
        self.workspace().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Storage buffers that a kernel of the plan binds.
    pub(super) fn storage_buffers(&self, kernel: Kernel) -> u32 {
        let bindings = kernel.bindings(&self.variant_of(kernel));
        let storage = bindings.iter().filter(|b| b.kind != BindingKind::Uniform);
        storage.count() as u32
    }

    /// The variant in which the plan runs a kernel.
    pub fn variant_of(&self, kernel: Kernel) -> Variant {
        let variant = match kernel {
            Kernel::Decide | Kernel::ValidRows | Kernel::Summary => &self.row_variant,
            _ => &self.variant,
        };
        kernel.canonical(variant)
    }
}
