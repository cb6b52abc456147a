//! Lists the dispatches of a plan with their parameters and bindings. A pure function, so that every host records the same list.

use super::chunks::{Chunk, row_workgroups, workgroups};
use super::lists::{List, Lists, ROW_REPORT_BYTES, ROW_RESULT_BYTES, SUMMARY_BYTES};
use super::operand::{Operand, Window};
use super::planner::{Plan, PlanKind};
use super::problem::Matrix;
use crate::params::label_classes;
use crate::shader::{Binding, Kernel, Params, Variant};
use crate::{Config, Error, Progress, Result, validate};

/// One dispatch of a kernel, whose text is [`assemble`](crate::shader::assemble)`(kernel, &variant, ..)`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Dispatch {
    /// The kernel.
    pub kernel: Kernel,
    /// Its variant.
    pub variant: Variant,
    /// The contents of its uniform buffer, binding 0.
    pub params: Params,
    /// All other bindings and the bytes bound there, in the order of their numbers.
    pub windows: Vec<(Binding, Window)>,
    /// Workgroups in the first dimension; the others have one.
    pub workgroups: u32,
}

impl Plan {
    /// The dispatches that compute the method, in order. Each must see the writes of the earlier ones, as in a compute pass.
    ///
    /// They need the buffers of [`workspace`](Self::workspace), with any contents.
    ///
    /// # Errors
    /// [`Error::PlanMismatch`] if the plan was made for other choices, or with weights or metrics and the lists have none, [`Error::BufferTooSmall`] and [`Error::BufferMisaligned`] for
    /// matrices and lists, [`Error::InvalidConfig`] and [`Error::InvalidProgress`].
    pub fn dispatches(
        &self,
        config: &Config,
        progress: Progress,
        lists: &Lists,
    ) -> Result<Vec<Dispatch>> {
        validate::config(config)?;
        validate::mean(config, self.problem.rows)?;
        validate::progress(config.selection, progress)?;
        let p = &self.problem;
        let fits = p.row_weights == lists.row_weights.is_some()
            && p.class_weights == lists.class_weights.is_some()
            && p.teacher_list == lists.teacher_ids.is_some()
            && p.metrics == lists.row_metrics.is_some()
            && p.shard.is_some() == lists.shard.is_some();
        if !self.has_choices_of(config) || !fits {
            return Err(Error::PlanMismatch);
        }
        self.check_buffers(lists)?;
        if let Some(shard) = &lists.shard {
            shard.check(config, self)?;
        }
        Ok(DispatchBuilder::new(self, config, progress, lists).all())
    }

    /// Sets the parameters of the plan's dispatches to those of another step: another progress, or other numbers of the configuration, such
    /// as the upstream gradient. Nothing else of the list changes.
    ///
    /// # Errors
    /// [`Error::PlanMismatch`] if the plan was made for other choices, [`Error::InvalidConfig`] and [`Error::InvalidProgress`]. The list is
    /// then unchanged.
    pub fn renumber(
        &self,
        dispatches: &mut [Dispatch],
        config: &Config,
        progress: Progress,
    ) -> Result<()> {
        validate::config(config)?;
        validate::mean(config, self.problem.rows)?;
        validate::progress(config.selection, progress)?;
        if !self.has_choices_of(config) {
            return Err(Error::PlanMismatch);
        }
        let numbers = Params {
            label_classes: label_classes(config, self.problem.classes),
            ..Params::of(config, progress)
        };
        for dispatch in dispatches {
            dispatch.params = dispatch.params.with_numbers_of(&numbers);
        }
        Ok(())
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
        if let Some(soft_labels) = &p.soft_labels {
            matrix("soft_labels", soft_labels, p.classes)?;
        }
        let rows = p.rows as u64;
        let label_bytes = lists.label_type.bytes();
        lists
            .labels
            .check("labels", label_bytes * rows, label_bytes)?;
        if let Some(weights) = &lists.row_weights {
            weights.check("row_weights", 4 * rows, 4)?;
        }
        if let Some(ids) = &lists.teacher_ids {
            ids.check("teacher_ids", 4 * rows * p.teacher_classes as u64, 4)?;
        }
        if let Some(weights) = &lists.class_weights {
            weights.check("class_weights", 4 * p.classes as u64, 4)?;
        }
        if let Some(results) = &lists.row_results {
            results.check("row_results", ROW_RESULT_BYTES * rows, ROW_RESULT_BYTES)?;
        }
        if let Some(metrics) = &lists.row_metrics {
            metrics.check("row_metrics", ROW_REPORT_BYTES * rows, ROW_REPORT_BYTES)?;
            if lists.row_results.is_some() {
                return Err(validate::results_twice());
            }
        }
        if let Some(summary) = &lists.summary {
            summary.check("summary", SUMMARY_BYTES, 256)?;
        }
        Ok(())
    }
}

/// Makes dispatches: finds the operand and window of each binding and sets the offsets in the parameters.
pub(crate) struct DispatchBuilder<'a> {
    pub(super) plan: &'a Plan,
    pub(super) lists: &'a Lists,
    workspace: [(Operand, u64); 7],
    params: Params,
}

impl<'a> DispatchBuilder<'a> {
    pub fn new(plan: &'a Plan, config: &Config, progress: Progress, lists: &'a Lists) -> Self {
        let p = &plan.problem;
        let params = Params {
            classes: p.classes as u32,
            label_classes: label_classes(config, p.classes),
            teacher_classes: p.teacher_classes as u32,
            student_stride: p.student.row_stride as u32,
            teacher_stride: p.teacher.row_stride as u32,
            grad_stride: p.gradient.map_or(0, |g| g.row_stride as u32),
            soft_label_stride: p.soft_labels.map_or(0, |y| y.row_stride as u32),
            count_labels: plan.count_labels,
            label_words: (lists.label_type.bytes() / 4) as u32,
            partials: workgroups(&plan.chunks) as u32,
            counts: row_workgroups(&plan.counted_first) as u32,
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

    /// Sets the number of classes. The plan of a single `decide` has none, because `decide` reads no logits.
    #[cfg(feature = "gpu")]
    pub fn with_classes(mut self, classes: usize) -> Self {
        self.params.classes = classes as u32;
        self
    }

    /// Bytes of one workspace buffer.
    fn bytes_of(&self, operand: Operand) -> u64 {
        let found = self.workspace.iter().find(|(other, _)| *other == operand);
        found.map_or(0, |(_, bytes)| *bytes)
    }

    /// The whole method.
    pub fn all(&self) -> Vec<Dispatch> {
        if let Some(lists) = &self.lists.shard {
            return self.of_shard(lists);
        }
        let plan = self.plan;
        let mut list = Vec::new();
        let mut counts = self.params.partials;
        for run in &plan.counted_first {
            list.push(self.one(Kernel::ValidRows, run, counts));
            counts += run.row_workgroups;
        }
        let mut partials = 0;
        if !plan.in_steps() {
            for chunk in &plan.chunks {
                list.push(self.one(Kernel::Distill, chunk, partials));
                partials += chunk.workgroups;
            }
            list.push(self.summary(partials, self.or_placeholder(Operand::Summary)));
            return list;
        }
        for chunk in &plan.chunks {
            list.push(self.one(Kernel::Observe, chunk, partials));
            if plan.sweeps_parts() {
                list.push(self.one(Kernel::SecondSweep, chunk, 0));
            }
            if plan.kind == PlanKind::Split {
                list.push(self.one(Kernel::MergeRowStats, chunk, partials));
            }
            partials += chunk.workgroups;
        }
        self.decide_and_apply(&mut list, partials);
        list
    }

    /// Adds the dispatches that follow the statistics of whole rows, whose partial summaries are `partials`.
    pub(super) fn decide_and_apply(&self, list: &mut Vec<Dispatch>, partials: u32) {
        list.push(self.summary(partials, Operand::StatsSummary));
        let mut partials = 0;
        for chunk in &self.plan.chunks {
            list.push(self.one(Kernel::Decide, chunk, partials));
            partials += chunk.row_workgroups;
            // `apply` must run before the next chunk overwrites these decisions.
            if self.plan.variant.gradient.is_some() {
                list.push(self.one(Kernel::Apply, chunk, 0));
            }
        }
        list.push(self.summary(partials, self.or_placeholder(Operand::Summary)));
    }

    /// One kernel on one chunk; its partial summaries start at `partial_offset`.
    pub fn one(&self, kernel: Kernel, chunk: &Chunk, partial_offset: u32) -> Dispatch {
        let workgroups = match kernel {
            Kernel::Decide | Kernel::ValidRows => chunk.row_workgroups,
            _ => chunk.workgroups,
        };
        let mut params = Params {
            rows: chunk.rows.len() as u32,
            workgroups,
            partial_offset,
            ..self.params
        };
        self.set_shard(kernel, chunk, &mut params);
        self.bind(
            kernel,
            Some(chunk),
            params,
            workgroups,
            Operand::Placeholder,
        )
    }

    /// Adds up `partials` partial summaries.
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
                "teacher_ids" => Operand::TeacherIds,
                "labels" => Operand::Labels,
                "soft_labels" => Operand::SoftLabels,
                "row_weights" => Operand::RowWeights,
                "class_weights" => Operand::ClassWeights,
                "grad_student_logits" => Operand::Gradient,
                "row_results" => self.or_placeholder(Operand::RowResults),
                "row_metrics" => Operand::RowMetrics,
                "summary" => summary,
                "row_stats" if kernel == Kernel::Observe && self.plan.observes_parts() => {
                    Operand::SegmentStats
                }
                "row_stats" => Operand::RowStats,
                "segment_stats" => Operand::SegmentStats,
                "sweep_sums" => Operand::SweepSums,
                "decisions" => Operand::Decisions,
                "partials" => Operand::Partials,
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

    /// The caller's output, or the placeholder if it is not needed.
    fn or_placeholder(&self, operand: Operand) -> Operand {
        let needed = match operand {
            Operand::RowResults => self.lists.row_results.is_some(),
            _ => self.lists.summary.is_some(),
        };
        if needed {
            operand
        } else {
            Operand::Placeholder
        }
    }

    /// Returns the bytes of an operand that a chunk binds. Sets its offset parameter: the elements in the binding before the first item.
    fn window(&self, operand: Operand, chunk: Option<&Chunk>, params: &mut Params) -> Window {
        let (p, lists) = (&self.plan.problem, self.lists);
        if let Some(window) = self.shard_window(operand) {
            return window;
        }
        let items = match operand {
            Operand::StudentLogits => Some(Items::rows(&p.student, p.classes)),
            Operand::TeacherLogits => Some(Items::rows(&p.teacher, p.teacher_classes)),
            Operand::Gradient => p.gradient.map(|g| Items::rows(&g, p.classes)),
            Operand::SoftLabels => p.soft_labels.map(|y| Items::rows(&y, p.classes)),
            Operand::TeacherIds => lists
                .teacher_ids
                .map(|l| Items::each(&l, p.teacher_classes)),
            Operand::Labels => Some(Items::of(&lists.labels, lists.label_type.bytes())),
            Operand::RowWeights => lists.row_weights.map(|l| Items::of(&l, 4)),
            Operand::ClassWeights => lists.class_weights.map(|l| Items::whole(&l, p.classes)),
            Operand::RowResults => lists.row_results.map(|l| Items::of(&l, ROW_RESULT_BYTES)),
            Operand::RowMetrics => lists.row_metrics.map(|l| Items::of(&l, ROW_REPORT_BYTES)),
            Operand::Summary => lists.summary.map(|l| Items::of(&l, SUMMARY_BYTES)),
            _ => None,
        };
        if let (Operand::RowStats, Some(chunk)) = (operand, chunk) {
            return self.plan.row_stats(chunk);
        }
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
        // The start is rounded down to the alignment. The end is rounded up to 16 bytes if the buffer is long enough, else to 4.
        let offset = start / self.plan.offset_alignment * self.plan.offset_alignment;
        let end = end.next_multiple_of(4);
        let end = end.max(end.next_multiple_of(16).min(items.buffer_bytes / 4 * 4));
        let first = ((start - offset) / items.element) as u32;
        match operand {
            Operand::StudentLogits => params.student_offset = first,
            Operand::TeacherLogits => params.teacher_offset = first,
            Operand::Gradient => params.grad_offset = first,
            Operand::SoftLabels => params.soft_label_offset = first,
            Operand::TeacherIds => params.id_offset = first,
            Operand::Labels => params.label_offset = first,
            Operand::RowWeights => params.weight_offset = first,
            Operand::ClassWeights => params.class_weight_offset = first,
            Operand::RowResults | Operand::RowMetrics => params.result_offset = first,
            _ => {}
        }
        Window {
            operand,
            offset,
            bytes: end - offset,
        }
    }
}

/// Placement of an operand's items in its buffer, in bytes. Each row of the batch has one item, or one row of items.
struct Items {
    offset: u64,
    stride: u64,
    /// Bytes of a row's items.
    bytes: u64,
    /// Bytes of one item.
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

    /// Numbers of four bytes, all of which every row needs.
    fn whole(list: &List, count: usize) -> Self {
        Self {
            stride: 0,
            bytes: 4 * count as u64,
            ..Self::of(list, 4)
        }
    }

    /// `count` numbers of four bytes for each row.
    fn each(list: &List, count: usize) -> Self {
        Self {
            element: 4,
            ..Self::of(list, 4 * count as u64)
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
