//! From a plan to its dispatches: what is bound where, chunk by chunk. A pure function, so that every host follows the same list,
//! also one that brings another wgpu or none.

use super::{
    Chunk, DECISION_BYTES, Matrix, PARTIAL_BYTES, Plan, PlanKind, ROW_RESULT_BYTES,
    ROW_STATS_BYTES, SUMMARY_BYTES,
};
use crate::params::label_classes;
use crate::shader::{Binding, Kernel, Params, Variant};
use crate::{Config, Error, Progress, Result, validate};

/// What a kernel binds beside its parameters: a buffer of the caller's, or one of the plan's workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// The caller's: `[rows, classes]`.
    StudentLogits,
    /// The caller's: `[rows, classes]`.
    TeacherLogits,
    /// The caller's: `i32 [rows]`.
    Labels,
    /// The caller's: `[rows, classes]`.
    Gradient,
    /// The caller's: [`RowResult`](crate::RowResult)` [rows]`.
    RowResults,
    /// The caller's: one [`Summary`](crate::Summary).
    Summary,
    /// Workspace: [`RowStats`](crate::RowStats)` [rows]`.
    RowStats,
    /// Workspace: [`RowStats`](crate::RowStats)` [rows of a chunk, segments]`.
    SegmentStats,
    /// Workspace: what the second sweep leaves, `f32 [rows of a chunk, segments]`.
    SimilaritySums,
    /// Workspace: [`Decision`](crate::Decision)` [rows of a chunk]`.
    Decisions,
    /// Workspace: what each workgroup leaves for the summary.
    Partials,
    /// Workspace: the count that a mean divides by, `u32`. It is counted up: 0 before the first dispatch.
    ValidRows,
    /// Workspace: the summary of the statistics, whose mean KDR serves `Batch` scope.
    StatsSummary,
    /// Workspace: in the place of an output that is not asked for.
    Placeholder,
}

impl Operand {
    /// The name it has in errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::StudentLogits => "student_logits",
            Self::TeacherLogits => "teacher_logits",
            Self::Labels => "labels",
            Self::Gradient => "gradient",
            Self::RowResults => "row_results",
            Self::Summary => "summary",
            Self::RowStats => "row_stats",
            Self::SegmentStats => "segment_stats",
            Self::SimilaritySums => "similarity_sums",
            Self::Decisions => "decisions",
            Self::Partials => "partials",
            Self::ValidRows => "valid_rows",
            Self::StatsSummary => "stats_summary",
            Self::Placeholder => "placeholder",
        }
    }
}

/// A list in a buffer of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct List {
    /// Bytes from the buffer's start to the first item.
    pub offset: u64,
    /// Bytes of the buffer.
    pub buffer_bytes: u64,
}

impl List {
    /// From the start of a buffer.
    pub fn new(buffer_bytes: u64) -> Self {
        Self {
            offset: 0,
            buffer_bytes,
        }
    }

    /// Checks that `bytes` bytes fit, and that they start at a multiple of `alignment`.
    fn check(&self, name: &'static str, bytes: u64, alignment: u64) -> Result<()> {
        let end = self.offset.saturating_add(bytes);
        validate::region(name, self.offset..end, alignment, self.buffer_bytes)
    }
}

/// Where the caller's lists lie. The matrices are in the [`Problem`](super::Problem).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lists {
    /// `i32 [rows]`, at a multiple of 4 bytes.
    pub labels: List,
    /// [`RowResult`](crate::RowResult)` [rows]`, 16 bytes each, at a multiple of 16; `None` if they are not wanted.
    pub row_results: Option<List>,
    /// One [`Summary`](crate::Summary), 32 bytes, at a multiple of 256; `None` if it is not wanted.
    pub summary: Option<List>,
}

/// The bytes of a buffer that are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Which buffer.
    pub operand: Operand,
    /// Bytes from its start: a multiple of the device's alignment.
    pub offset: u64,
    /// How many bytes, at least 4.
    pub bytes: u64,
}

/// One dispatch of a kernel, whose text is [`assemble`](crate::shader::assemble)`(kernel, &variant, ..)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// The kernel.
    pub kernel: Kernel,
    /// In this variant.
    pub variant: Variant,
    /// The contents of its uniform buffer, binding 0.
    pub params: Params,
    /// Its other bindings, all of them, with what is bound there, in the order of their numbers.
    pub windows: Vec<(Binding, Window)>,
    /// Workgroups in the first dimension; there is one in each other.
    pub workgroups: u32,
}

impl Plan {
    /// The dispatches that compute the method, in their order; each must see what the one before wrote, as those of a compute pass do.
    ///
    /// The buffers of [`workspace`](Self::workspace) must be there, [`Operand::ValidRows`] zeroed.
    ///
    /// # Errors
    /// [`Error::PlanMismatch`] for other choices than the plan was made for, [`Error::BufferTooSmall`] and [`Error::BufferMisaligned`] for
    /// what lies in a buffer as it may not, and what configurations and progress are refused for.
    pub fn dispatches(
        &self,
        config: &Config,
        progress: Progress,
        lists: &Lists,
    ) -> Result<Vec<Dispatch>> {
        validate::config(config)?;
        validate::mean(config, self.problem.rows)?;
        validate::progress(config.selection, progress)?;
        if self.choices != super::Choices::of(config) {
            return Err(Error::PlanMismatch);
        }
        self.check_buffers(lists)?;
        Ok(Bindings::new(self, config, progress, lists).all())
    }

    fn check_buffers(&self, lists: &Lists) -> Result<()> {
        let p = &self.problem;
        let matrix = |name, m: &Matrix, classes| {
            let bytes = m.offset..m.end(p.rows, classes);
            validate::region(name, bytes, m.storage.bytes() as u64, m.buffer_bytes)
        };
        matrix("student_logits", &p.student, p.classes)?;
        matrix("teacher_logits", &p.teacher, p.teacher_classes)?;
        if let Some(gradient) = &p.gradient {
            matrix("gradient", gradient, p.classes)?;
        }
        let rows = p.rows as u64;
        lists.labels.check("labels", 4 * rows, 4)?;
        if let Some(results) = &lists.row_results {
            results.check("row_results", ROW_RESULT_BYTES * rows, ROW_RESULT_BYTES)?;
        }
        if let Some(summary) = &lists.summary {
            summary.check("summary", SUMMARY_BYTES, 256)?;
        }
        Ok(())
    }

    /// The buffers that the plan needs besides the caller's, and the bytes of each: in proportion to the rows at most.
    pub fn workspace(&self) -> [(Operand, u64); 8] {
        let groups = |of: fn(&Chunk) -> u32| self.chunks.iter().map(|c| u64::from(of(c))).sum();
        let most: u64 = u64::max(groups(|c| c.workgroups), groups(|c| c.row_workgroups));
        let rows = self.chunks.last().map_or(0, |c| c.rows.end as u64);
        // Decisions and segments are kept of one chunk at a time.
        let longest = self.chunks.iter().map(|c| c.rows.len() as u64).max();
        let longest = longest.unwrap_or(0);
        let segments = u64::from(self.segments) * longest;
        let only = |yes: bool, bytes: u64| if yes { bytes.max(64) } else { 64 };
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

    /// Bytes of device memory that the plan needs besides the caller's buffers: in proportion to the rows at most.
    pub fn workspace_bytes(&self) -> u64 {
        self.workspace().iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Finds what each binding of a kernel is bound to, and says in the parameters where it starts.
pub(crate) struct Bindings<'a> {
    plan: &'a Plan,
    lists: &'a Lists,
    workspace: [(Operand, u64); 8],
    params: Params,
}

impl<'a> Bindings<'a> {
    pub fn new(plan: &'a Plan, config: &Config, progress: Progress, lists: &'a Lists) -> Self {
        let p = &plan.problem;
        let params = Params {
            classes: p.classes as u32,
            label_classes: label_classes(config, p.classes),
            teacher_classes: p.teacher_classes as u32,
            student_stride: p.student.row_stride as u32,
            teacher_stride: p.teacher.row_stride as u32,
            grad_stride: p.gradient.map_or(0, |g| g.row_stride as u32),
            count_labels: plan.count_labels,
            segments: plan.segments,
            segment_vectors: plan.segment_vectors(),
            write_results: u32::from(lists.row_results.is_some()),
            ..Params::of(config, progress)
        };
        Self {
            plan,
            lists,
            workspace: plan.workspace(),
            params,
        }
    }

    /// With the classes of a batch whose plan knows none: that of `decide` alone, which sees no logits.
    pub fn with_classes(mut self, classes: usize) -> Self {
        self.params.classes = classes as u32;
        self
    }

    /// Bytes of one buffer of the workspace.
    fn bytes_of(&self, operand: Operand) -> u64 {
        let found = self.workspace.iter().find(|(other, _)| *other == operand);
        found.map_or(0, |(_, bytes)| *bytes)
    }

    /// The whole method.
    fn all(&self) -> Vec<Dispatch> {
        let plan = self.plan;
        let mut list = Vec::new();
        if plan.counts_first {
            list.extend(
                plan.chunks
                    .iter()
                    .map(|c| self.one(Kernel::ValidRows, c, 0)),
            );
        }
        let mut partials = 0;
        if !plan.in_steps() {
            for chunk in &plan.chunks {
                list.push(self.one(Kernel::Distill, chunk, partials));
                partials += chunk.workgroups;
            }
            list.push(self.summary(partials, self.of_caller(Operand::Summary)));
            return list;
        }
        for chunk in &plan.chunks {
            list.push(self.one(Kernel::Observe, chunk, partials));
            if plan.sweeps_segments() {
                list.push(self.one(Kernel::SecondSweep, chunk, 0));
            }
            if plan.kind == PlanKind::Split {
                list.push(self.one(Kernel::MergeRowStats, chunk, partials));
            }
            partials += chunk.workgroups;
        }
        list.push(self.summary(partials, Operand::StatsSummary));
        partials = 0;
        for chunk in &plan.chunks {
            list.push(self.one(Kernel::Decide, chunk, partials));
            partials += chunk.row_workgroups;
            // Before the next chunk's decisions take the place of these.
            if plan.variant.gradient.is_some() {
                list.push(self.one(Kernel::Apply, chunk, 0));
            }
        }
        list.push(self.summary(partials, self.of_caller(Operand::Summary)));
        list
    }

    /// One kernel on one chunk, with its partial sums from that entry on.
    pub fn one(&self, kernel: Kernel, chunk: &Chunk, partial_offset: u32) -> Dispatch {
        let workgroups = match kernel {
            Kernel::Decide | Kernel::ValidRows => chunk.row_workgroups,
            _ => chunk.workgroups,
        };
        let params = Params {
            rows: chunk.rows.len() as u32,
            workgroups,
            partial_offset,
            ..self.params
        };
        self.bind(
            kernel,
            Some(chunk),
            params,
            workgroups,
            Operand::Placeholder,
        )
    }

    /// The sum of so many partial sums.
    fn summary(&self, partials: u32, into: Operand) -> Dispatch {
        let params = Params {
            partials,
            ..self.params
        };
        self.bind(Kernel::Summary, None, params, 1, into)
    }

    fn bind(
        &self,
        kernel: Kernel,
        chunk: Option<&Chunk>,
        mut params: Params,
        workgroups: u32,
        summary: Operand,
    ) -> Dispatch {
        let variant = self.plan.variant_of(kernel);
        let mut windows = Vec::new();
        for binding in kernel.bindings(&variant) {
            let operand = match binding.name {
                "params" => continue,
                "student_logits" => Operand::StudentLogits,
                "teacher_logits" => Operand::TeacherLogits,
                "labels" => Operand::Labels,
                "grad_student_logits" => Operand::Gradient,
                "row_results" => self.of_caller(Operand::RowResults),
                "summary" => summary,
                "row_stats" if kernel == Kernel::Observe && self.plan.segments > 1 => {
                    Operand::SegmentStats
                }
                "row_stats" => Operand::RowStats,
                "segment_stats" => Operand::SegmentStats,
                "similarity_sums" => Operand::SimilaritySums,
                "decisions" => Operand::Decisions,
                "partials" => Operand::Partials,
                "valid_rows" => Operand::ValidRows,
                "stats_summary" => Operand::StatsSummary,
                other => unreachable!("no kernel binds `{other}`"),
            };
            windows.push((binding, self.window(operand, chunk, &mut params)));
        }
        if variant.in_place {
            params.student_offset = params.grad_offset;
        }
        Dispatch {
            kernel,
            variant,
            params,
            windows,
            workgroups,
        }
    }

    /// An output of the caller's, or what is bound in its place.
    fn of_caller(&self, operand: Operand) -> Operand {
        let wanted = match operand {
            Operand::RowResults => self.lists.row_results.is_some(),
            _ => self.lists.summary.is_some(),
        };
        if wanted {
            operand
        } else {
            Operand::Placeholder
        }
    }

    /// What a chunk needs of an operand, and in the parameters the elements from there to the first one meant.
    fn window(&self, operand: Operand, chunk: Option<&Chunk>, params: &mut Params) -> Window {
        let (p, lists) = (&self.plan.problem, self.lists);
        let items = match operand {
            Operand::StudentLogits => Some(Items::rows(&p.student, p.classes)),
            Operand::TeacherLogits => Some(Items::rows(&p.teacher, p.teacher_classes)),
            Operand::Gradient => p.gradient.map(|g| Items::rows(&g, p.classes)),
            Operand::Labels => Some(Items::of(&lists.labels, 4)),
            Operand::RowResults => lists.row_results.map(|l| Items::of(&l, ROW_RESULT_BYTES)),
            Operand::Summary => lists.summary.map(|l| Items::of(&l, SUMMARY_BYTES)),
            Operand::RowStats => {
                let own = List::new(self.bytes_of(operand));
                Some(Items::of(&own, ROW_STATS_BYTES))
            }
            _ => None,
        };
        let Some(items) = items else {
            return Window {
                operand,
                offset: 0,
                bytes: self.bytes_of(operand),
            };
        };
        let rows = chunk.map_or(0..1, |c| c.rows.start as u64..c.rows.end as u64);
        let start = items.offset + rows.start * items.stride;
        let end = items.offset + (rows.end - 1) * items.stride + items.bytes;
        // From the alignment before to whole 16-byte words after, as far as the buffer goes.
        let offset = start / self.plan.offset_alignment * self.plan.offset_alignment;
        let end = end.next_multiple_of(4);
        let end = end.max(end.next_multiple_of(16).min(items.buffer_bytes / 4 * 4));
        let first = ((start - offset) / items.element) as u32;
        match operand {
            Operand::StudentLogits => params.student_offset = first,
            Operand::TeacherLogits => params.teacher_offset = first,
            Operand::Gradient => params.grad_offset = first,
            Operand::Labels => params.label_offset = first,
            Operand::RowResults => params.result_offset = first,
            Operand::RowStats => params.stats_offset = first,
            _ => {}
        }
        Window {
            operand,
            offset,
            bytes: end - offset,
        }
    }
}

/// How the items of an operand, one or a row of them for each row of the batch, lie in its buffer; all in bytes.
struct Items {
    offset: u64,
    stride: u64,
    /// Of a row's items.
    bytes: u64,
    /// Of one item.
    element: u64,
    buffer_bytes: u64,
}

impl Items {
    fn rows(matrix: &Matrix, classes: usize) -> Self {
        let element = matrix.storage.bytes() as u64;
        Self {
            offset: matrix.offset,
            stride: matrix.row_stride as u64 * element,
            bytes: classes as u64 * element,
            element,
            buffer_bytes: matrix.buffer_bytes,
        }
    }

    fn of(list: &List, item: u64) -> Self {
        Self {
            offset: list.offset,
            stride: item,
            bytes: item,
            element: item,
            buffer_bytes: list.buffer_bytes,
        }
    }
}
