//! Chooses kernels, workgroups and chunks.

use std::ops::Range;

use super::limits::{Limits, MOST_BINDING, check_limits};
use super::operand::Operand;
use super::problem::{
    DECISION_BYTES, Matrix, PARTIAL_BYTES, Problem, ROW_RESULT_BYTES, ROW_STATS_BYTES,
    SUMMARY_BYTES,
};
use super::tiling::{Tiling, check_workgroup};
use crate::shader::{Access, Kernel, Variant};
use crate::{Config, Error, GradWrite, Reduction, Result, Scope, Similarity, validate};

/// How observe, decide and apply are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlanKind {
    /// A few lanes own a row, several rows share a workgroup; one dispatch.
    Packed,
    /// A workgroup owns a row, reads it once and keeps it in registers; one dispatch.
    Resident,
    /// A workgroup owns a row, keeps its end and reads the rest twice, the second time in reverse; one dispatch.
    Streaming,
    /// Several workgroups own a row: statistics of its segments, merged, then decide and apply.
    Split,
    /// Observe, decide and apply in separate dispatches, all on the device.
    TwoPhase,
}

/// A run of whole rows that one dispatch can bind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chunk {
    /// The rows.
    pub rows: Range<usize>,
    /// Workgroups of the kernels that own rows by lanes.
    pub workgroups: u32,
    /// Workgroups of `decide` and `valid_rows`, where an invocation owns a row.
    pub row_workgroups: u32,
}

/// The choices of a configuration that a plan depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choices {
    similarity: Similarity,
    smoothing: bool,
    accumulate: bool,
    two_phase: bool,
    counts_rows: bool,
}

impl Choices {
    fn of(config: &Config) -> Self {
        Self {
            similarity: config.similarity,
            smoothing: config.label_smoothing > 0.0,
            accumulate: config.grad_write == GradWrite::Accumulate,
            two_phase: config.scope == Scope::Batch,
            counts_rows: config.reduction == Reduction::Mean,
        }
    }
}

/// The kernels, workgroups and chunks for a problem. Make one with [`Plan::new`] or [`Gpu::plan`](crate::gpu::Gpu::plan), print it with `{}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(super) kind: PlanKind,
    /// Of the kernels that own rows by lanes.
    pub(super) variant: Variant,
    /// Of `decide`, `valid_rows` and `summary`.
    pub(super) row_variant: Variant,
    pub(super) chunks: Vec<Chunk>,
    pub(super) segments: u32,
    /// Labels that each workgroup counts for itself; 0 where nothing is counted, or `valid_rows` counts.
    pub(super) count_labels: u32,
    /// True if `valid_rows` is dispatched first.
    pub(super) counts_first: bool,
    pub(super) problem: Problem,
    choices: Choices,
    pub(super) offset_alignment: u64,
}

/// Batches up to this size count their valid labels in every workgroup.
const COUNT_INLINE: usize = 1024;

/// Most workgroups of a dispatch; each loops over further rows. Software adapters take long to start one.
const MOST_WORKGROUPS: u32 = 4096;
const MOST_SOFTWARE_WORKGROUPS: u32 = 64;

/// More chunks than any matrix that fits a device has, and few enough to list on the host.
const MOST_CHUNKS: u64 = 1 << 16;

impl Plan {
    /// The plan for a problem on a device with these limits.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if a single row is larger than a binding may be, or the chunks are too many.
    pub fn new(config: &Config, problem: &Problem, limits: &Limits) -> Result<Self> {
        let tiling = Tiling::for_shape(problem.rows, problem.classes, limits);
        Self::with_tiling(config, problem, limits, &tiling)
    }

    /// The plan with a tiling chosen by the caller.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if a single row is larger than a binding may be, or the chunks are too many;
    /// [`Error::Unsupported`] if the device cannot run such workgroups.
    pub fn with_tiling(
        config: &Config,
        problem: &Problem,
        limits: &Limits,
        tiling: &Tiling,
    ) -> Result<Self> {
        let Tiling {
            lanes,
            workgroup_size,
            vectors_per_lane,
            subgroup_min,
            segments,
        } = *tiling;
        let p = problem;
        check_limits(limits)?;
        // Each with the columns that are read: a teacher may have fewer than the student.
        let matrices = [
            Some((p.student, p.classes)),
            Some((p.teacher, p.teacher_classes)),
            p.gradient.map(|g| (g, p.classes)),
        ];
        let matrices = || matrices.into_iter().flatten();
        for (m, classes) in matrices() {
            validate::shape("logits", p.rows, classes, m.row_stride)?;
        }
        let access = if matrices().all(|(m, classes)| m.takes_vec4(p.rows, classes)) {
            Access::Vec4
        } else {
            Access::Element
        };
        let choices = Choices::of(config);
        let in_place = p.in_place && p.gradient.is_some();
        if in_place && choices.accumulate {
            return Err(Error::Unsupported {
                what: "`grad_write: Accumulate` with the gradient in place of the student's logits"
                    .to_owned(),
                why: "the gradient would be added to the logits; use `Overwrite`, or a buffer for the gradient",
            });
        }
        let two_phase = choices.two_phase;
        let variant = Variant {
            student: p.student.storage,
            teacher: p.teacher.storage,
            gradient: p.gradient.map(|g| g.storage),
            access,
            similarity: config.similarity,
            smoothing: choices.smoothing,
            accumulate: choices.accumulate && p.gradient.is_some(),
            shared_buffers: p.shared_buffers,
            in_place,
            workgroup_size,
            lanes,
            vectors_per_lane,
            subgroup_min,
        };
        let row_size = if limits.software { 16 } else { 128 };
        let row_size = row_size.min(1 << limits.workgroup_invocations.ilog2());
        let row_variant = Variant {
            workgroup_size: row_size,
            lanes: 1,
            vectors_per_lane: 1,
            subgroup_min: None,
            ..variant
        };
        check_workgroup(&variant, limits)?;
        check_workgroup(&row_variant, limits)?;

        let segments = segments.max(1);
        let in_steps = two_phase || segments > 1;
        let per_row = match (in_steps, u64::from(segments)) {
            (false, _) => ROW_RESULT_BYTES,
            (true, segments) => ROW_STATS_BYTES * segments,
        };
        let per_chunk = rows_per_chunk(matrices(), p, limits, per_row)?;
        let binding = limits.binding_bytes.min(MOST_BINDING);
        // Every chunk is a dispatch, has an entry in this plan and leaves a partial sum.
        let count = p.rows.div_ceil(per_chunk) as u64;
        within("the number of chunks", count, MOST_CHUNKS)?;
        let partials = count * PARTIAL_BYTES;
        within("the size of the partial sums in bytes", partials, binding)?;
        let mut chunks = Vec::new();
        // All chunks' partial sums are bound together.
        let room = binding / PARTIAL_BYTES / count.max(1);
        let most = if limits.software {
            MOST_SOFTWARE_WORKGROUPS
        } else {
            MOST_WORKGROUPS
        };
        let most = limits.workgroups.min(most);
        let most = most.min(u32::try_from(room).unwrap_or(u32::MAX)).max(1);
        let mut start = 0;
        while start < p.rows {
            let rows = start..p.rows.min(start + per_chunk);
            let groups = |owned: usize, owned_each: u32| {
                let wanted = owned.div_ceil(owned_each as usize);
                u32::try_from(wanted).unwrap_or(u32::MAX).min(most)
            };
            chunks.push(Chunk {
                workgroups: groups(rows.len() * segments as usize, workgroup_size / lanes),
                row_workgroups: groups(rows.len(), row_size),
                rows: rows.clone(),
            });
            start = rows.end;
        }
        let counts = choices.counts_rows && !in_steps;
        let inline = counts && chunks.len() == 1 && p.rows <= COUNT_INLINE;
        // A gradient of 16-bit numbers may start within a word, which can add a vector.
        let halves = p.gradient.is_some_and(|g| g.storage.bytes() == 2);
        let misaligned = halves && access == Access::Element;
        let vectors = (p.classes as u64 + u64::from(misaligned)).div_ceil(4);
        let kind = if segments > 1 {
            PlanKind::Split
        } else if two_phase {
            PlanKind::TwoPhase
        } else if lanes < workgroup_size {
            PlanKind::Packed
        } else if vectors <= u64::from(vectors_per_lane) * u64::from(lanes) {
            PlanKind::Resident
        } else {
            PlanKind::Streaming
        };
        let plan = Self {
            kind,
            variant,
            row_variant,
            count_labels: if inline { p.rows as u32 } else { 0 },
            counts_first: counts && !inline && !chunks.is_empty(),
            chunks,
            segments,
            problem: *problem,
            choices,
            offset_alignment: limits.offset_alignment,
        };
        for (operand, bytes) in plan.workspace() {
            let what = "the size of a workspace buffer in bytes";
            within(what, bytes, limits.buffer_bytes)?;
            if operand == Operand::Partials {
                within("the size of the partial sums in bytes", bytes, binding)?;
            }
        }
        Ok(plan)
    }

    /// How the steps are laid out.
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

    /// The kernels in the order of their dispatches; those before the last `Summary` run once per chunk.
    pub fn kernels(&self) -> Vec<Kernel> {
        let mut list = Vec::new();
        if self.counts_first {
            list.push(Kernel::ValidRows);
        }
        if self.in_steps() {
            list.push(Kernel::Observe);
            if self.kind == PlanKind::Split {
                list.extend(self.sweeps_segments().then_some(Kernel::SecondSweep));
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
        matches!(self.kind, PlanKind::Split | PlanKind::TwoPhase)
    }

    /// Returns true if the similarity needs a second sweep over the segments of rows.
    pub(super) fn sweeps_segments(&self) -> bool {
        self.kind == PlanKind::Split && self.variant.similarity.needs_second_sweep()
    }

    /// Vectors of four classes in a segment of a row.
    pub(super) fn segment_vectors(&self) -> u32 {
        if self.segments == 1 {
            return u32::MAX;
        }
        (self.problem.classes / 4 + 2).div_ceil(self.segments as usize) as u32
    }

    /// The temporary buffers of the plan and the bytes of each, at most proportional to the rows.
    pub fn workspace(&self) -> [(Operand, u64); 8] {
        let groups = |of: fn(&Chunk) -> u32| self.chunks.iter().map(|c| u64::from(of(c))).sum();
        let most: u64 = u64::max(groups(|c| c.workgroups), groups(|c| c.row_workgroups));
        let rows = self.chunks.last().map_or(0, |c| c.rows.end as u64);
        // Decisions and segments of one chunk at a time are kept.
        let longest = self.chunks.iter().map(|c| c.rows.len() as u64).max();
        let longest = longest.unwrap_or(0);
        let segments = u64::from(self.segments) * longest;
        let only = |needed: bool, bytes: u64| if needed { bytes.max(64) } else { 64 };
        [
            (Operand::Partials, only(true, PARTIAL_BYTES * most)),
            (
                Operand::RowStats,
                only(self.in_steps(), ROW_STATS_BYTES * rows),
            ),
            (
                Operand::Decisions,
                only(self.in_steps(), DECISION_BYTES * longest),
            ),
            (
                Operand::SegmentStats,
                only(self.segments > 1, ROW_STATS_BYTES * segments),
            ),
            (
                Operand::SimilaritySums,
                only(self.sweeps_segments(), 4 * segments),
            ),
            (Operand::ValidRows, 64),
            (Operand::StatsSummary, SUMMARY_BYTES),
            (Operand::Placeholder, 64),
        ]
    }

    /// Bytes of the temporary buffers together, at most proportional to the rows.
    pub fn workspace_bytes(&self) -> u64 {
        self.workspace().iter().map(|(_, bytes)| bytes).sum()
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

/// Most rows of a chunk, so that every binding of it fits.
fn rows_per_chunk(
    matrices: impl Iterator<Item = (Matrix, usize)>,
    p: &Problem,
    limits: &Limits,
    per_row: u64,
) -> Result<usize> {
    let room = limits.room();
    within("the size of one row's statistics in bytes", per_row, room)?;
    let mut most = p.rows.max(1) as u64;
    for (m, classes) in matrices {
        let bytes = m.storage.bytes() as u64;
        let row = classes as u64 * bytes;
        within("the size of one row of logits in bytes", row, room)?;
        let stride = m.row_stride as u64 * bytes;
        most = most.min(1 + (room - row) / stride);
    }
    most = most.min(room / per_row);
    Ok(usize::try_from(most).unwrap_or(usize::MAX))
}

fn within(what: &'static str, needed: u64, limit: u64) -> Result<()> {
    match needed <= limit {
        true => Ok(()),
        false => Err(Error::LimitExceeded {
            what,
            needed,
            limit,
        }),
    }
}
