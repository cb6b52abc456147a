//! Which kernels run, how many lanes own a row, how many workgroups run, in which chunks of whole rows.
//!
//! A plan is a pure function of the problem and the device's limits. It knows no device, so it is tested on invented ones.

mod dispatch;
mod limits;
mod suits;

use std::fmt;
use std::ops::Range;

pub(crate) use dispatch::Bindings;
pub use dispatch::{Dispatch, List, Lists, Operand, Window};
pub use limits::{Limits, Tiling};
use limits::{MOST_BINDING, check_limits, check_workgroup};

use crate::shader::{Access, Kernel, Variant};
use crate::{Config, Error, GradWrite, Reduction, Result, Scope, Similarity, Storage, validate};

/// A matrix `[rows, classes]` in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// How its numbers are stored.
    pub storage: Storage,
    /// Elements from row to row.
    pub row_stride: usize,
    /// Bytes from the buffer's start to row 0.
    pub offset: u64,
    /// Bytes of the buffer.
    pub buffer_bytes: u64,
}

impl Matrix {
    /// Bytes from the buffer's start to the end of the last row; `u64::MAX` where that overflows.
    pub fn end(&self, rows: usize, classes: usize) -> u64 {
        if rows == 0 {
            return self.offset;
        }
        let before = (rows as u64 - 1).saturating_mul(self.row_stride as u64);
        let elements = before.saturating_add(classes as u64);
        let bytes = elements.saturating_mul(self.storage.bytes() as u64);
        self.offset.saturating_add(bytes)
    }

    /// Whether every row starts at a multiple of four elements and the last one may be read up to one.
    fn takes_vec4(&self, rows: usize, classes: usize) -> bool {
        let unit = 4 * self.storage.bytes() as u64;
        self.row_stride.is_multiple_of(4)
            && self.offset.is_multiple_of(unit)
            && self.end(rows, classes.next_multiple_of(4)) <= self.buffer_bytes
    }
}

/// What is to be computed, as far as it concerns planning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Problem {
    /// Rows of the batch.
    pub rows: usize,
    /// Classes of the student.
    pub classes: usize,
    /// Classes of the teacher that the student has too.
    pub teacher_classes: usize,
    /// The student's logits.
    pub student: Matrix,
    /// The teacher's logits.
    pub teacher: Matrix,
    /// The gradient, if there is one.
    pub gradient: Option<Matrix>,
    /// Whether an output lies in the buffer of an input, beside it.
    pub shared_buffers: bool,
    /// Whether the gradient takes the place of the student's logits: the same matrix.
    pub in_place: bool,
}

/// How observe, decide and apply are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlanKind {
    /// A few lanes own a row, several rows share a workgroup; one dispatch.
    Packed,
    /// A workgroup owns a row, reads it once and keeps it in registers; one dispatch.
    Resident,
    /// A workgroup owns a row, keeps its end and reads the rest twice, the second time in reverse; one dispatch.
    Streaming,
    /// Several workgroups own a row: statistics of its segments, merged, then selection and gradient.
    Split,
    /// Statistics, selection and gradient in dispatches of their own, all on the device.
    TwoPhase,
}

/// A run of whole rows that one dispatch can bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The rows.
    pub rows: Range<usize>,
    /// Workgroups of the kernels that own rows by lanes.
    pub workgroups: u32,
    /// Workgroups of `decide` and `valid_rows`, where an invocation owns a row.
    pub row_workgroups: u32,
}

/// What of a configuration is built into a plan.
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

/// What will be dispatched. Ask for one with [`Plan::new`] or [`Gpu::plan`](crate::gpu::Gpu::plan), print it with `{}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    kind: PlanKind,
    /// Of the kernels that own rows by lanes.
    variant: Variant,
    /// Of `decide`, `valid_rows` and `summary`.
    row_variant: Variant,
    chunks: Vec<Chunk>,
    segments: u32,
    /// Labels that each workgroup counts for itself; 0 where nothing is counted, or a dispatch of `valid_rows` does it.
    count_labels: u32,
    /// Whether `valid_rows` is dispatched first.
    counts_first: bool,
    problem: Problem,
    choices: Choices,
    offset_alignment: u64,
}

/// Batches up to this size count their valid labels in every workgroup.
const COUNT_INLINE: usize = 1024;

/// Bytes of the device's structs for one row or one workgroup.
pub(crate) const ROW_STATS_BYTES: u64 = 64;
pub(crate) const DECISION_BYTES: u64 = 64;
pub(crate) const ROW_RESULT_BYTES: u64 = 16;
pub(crate) const PARTIAL_BYTES: u64 = 48;
pub(crate) const SUMMARY_BYTES: u64 = 32;

/// Workgroups that leave a partial sum each; more rows are looped over. Software adapters take long to start one.
const MOST_WORKGROUPS: u32 = 4096;
const MOST_SOFTWARE_WORKGROUPS: u32 = 64;

/// Far beyond any matrix that fits a device, and little memory for the host that lists them.
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
        // Each with the columns that are looked at: a teacher may have fewer than the student.
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
        let two_phase = choices.two_phase;
        let variant = Variant {
            student: p.student.storage,
            teacher: p.teacher.storage,
            gradient: p.gradient.map(|g| g.storage),
            access,
            similarity: config.similarity,
            smoothing: choices.smoothing,
            accumulate: choices.accumulate,
            shared_buffers: p.shared_buffers,
            in_place: p.in_place && p.gradient.is_some(),
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
        within(
            "the partial sums, in bytes,",
            count * PARTIAL_BYTES,
            binding,
        )?;
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
        // A gradient of 16-bit numbers may start within a word, which can make a unit more.
        let halves = p.gradient.is_some_and(|g| g.storage.bytes() == 2);
        let head = halves && access == Access::Element;
        let units = (p.classes as u64 + u64::from(head)).div_ceil(4);
        let kind = if segments > 1 {
            PlanKind::Split
        } else if two_phase {
            PlanKind::TwoPhase
        } else if lanes < workgroup_size {
            PlanKind::Packed
        } else if units <= u64::from(vectors_per_lane) * u64::from(lanes) {
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
            within(
                "a buffer of the workspace, in bytes,",
                bytes,
                limits.buffer_bytes,
            )?;
            if operand == Operand::Partials {
                within("the partial sums, in bytes,", bytes, binding)?;
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

    /// Pieces of a row.
    pub fn segments(&self) -> u32 {
        self.segments
    }

    /// Whether it was made for this problem and these choices.
    pub(crate) fn is_for(&self, config: &Config, problem: &Problem) -> bool {
        self.problem == *problem && self.choices == Choices::of(config)
    }

    /// The kernels in the order of their dispatches; those before the last `Summary` once a chunk.
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

    /// Whether observe, decide and apply are dispatches of their own.
    pub(crate) fn in_steps(&self) -> bool {
        matches!(self.kind, PlanKind::Split | PlanKind::TwoPhase)
    }

    /// Whether the similarity needs a second sweep over segments of rows.
    pub(crate) fn sweeps_segments(&self) -> bool {
        self.kind == PlanKind::Split && self.variant.similarity.needs_second_sweep()
    }

    /// Units of four classes in a segment of a row.
    pub(crate) fn segment_vectors(&self) -> u32 {
        if self.segments == 1 {
            return u32::MAX;
        }
        (self.problem.classes / 4 + 2).div_ceil(self.segments as usize) as u32
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

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PlanKind::Packed => "packed",
            PlanKind::Resident => "resident",
            PlanKind::Streaming => "streaming",
            PlanKind::Split => "split",
            PlanKind::TwoPhase => "two-phase",
        };
        let v = &self.variant;
        let meet = match v.subgroup_min {
            Some(_) => "subgroups",
            None => "workgroup memory",
        };
        let access = match v.access {
            Access::Vec4 => "vec4",
            Access::Element => "element",
        };
        write!(
            f,
            "{kind}: {} of {} lanes a row, {} units at a time, {access} access, {meet}, ",
            v.lanes, v.workgroup_size, v.vectors_per_lane
        )?;
        if self.segments > 1 {
            write!(f, "{} segments a row, ", self.segments)?;
        }
        match self.chunks.as_slice() {
            [] => write!(f, "no rows"),
            [only] => write!(f, "{} workgroups", only.workgroups),
            many => write!(f, "{} chunks", many.len()),
        }
    }
}

/// How many rows a chunk may have, so that every binding of it fits.
fn rows_per_chunk(
    matrices: impl Iterator<Item = (Matrix, usize)>,
    p: &Problem,
    limits: &Limits,
    per_row: u64,
) -> Result<usize> {
    // A binding starts at a multiple of the alignment, so up to that much is lost before row 0.
    let room = limits.binding_bytes.min(MOST_BINDING) - limits.offset_alignment - 16;
    within("what is kept of one row, in bytes,", per_row, room)?;
    let mut most = p.rows.max(1) as u64;
    for (m, classes) in matrices {
        let bytes = m.storage.bytes() as u64;
        let row = classes as u64 * bytes;
        within("one row of logits, in bytes,", row, room)?;
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
