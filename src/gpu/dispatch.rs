//! From a plan to dispatches: every binding of every kernel, chunk by chunk.

use super::encode::{GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use super::{Gpu, Workspace};
use crate::params::Params;
use crate::plan::{
    Chunk, DECISION_BYTES, PARTIAL_BYTES, Plan, PlanKind, ROW_RESULT_BYTES, ROW_STATS_BYTES,
    SUMMARY_BYTES,
};
use crate::shader::{Binding, BindingKind, Kernel, Variant};
use crate::{Config, Progress};

/// One dispatch: what is bound beside the parameters, and how many workgroups run.
pub(super) struct Dispatch<'a> {
    pub kernel: Kernel,
    pub params: Params,
    pub bindings: Vec<(u32, Window<'a>)>,
    pub workgroups: u32,
}

impl Dispatch<'_> {
    /// Two bindings that overlap, one of them written: their names, as errors have them.
    pub fn overlap(&self, variant: &Variant) -> Option<(&'static str, &'static str)> {
        let kinds = self.kernel.bindings(variant);
        let name = |binding: &Binding| match binding.name {
            "grad_student_logits" => "gradient",
            name => name,
        };
        let mut bound: Vec<(&Binding, &Window<'_>)> = Vec::new();
        for (index, window) in &self.bindings {
            let Some(binding) = kinds.iter().find(|b| b.index == *index) else {
                continue;
            };
            for (other, theirs) in &bound {
                let written = [binding.kind, other.kind].contains(&BindingKind::ReadWrite);
                if written && window.overlaps(theirs) {
                    return Some((name(other), name(binding)));
                }
            }
            bound.push((binding, window));
        }
        None
    }
}

/// A binding that starts at or before `offset`, at a multiple of the device's alignment.
pub(super) struct Window<'a> {
    buffer: &'a wgpu::Buffer,
    start: u64,
    /// Elements from the start of the binding to the first one meant.
    elements: u32,
    bytes: u64,
}

impl<'a> Window<'a> {
    /// From byte `offset` to byte `end` of a buffer, in elements of `element` bytes.
    fn new(buffer: &'a wgpu::Buffer, offset: u64, end: u64, element: u64, alignment: u64) -> Self {
        let start = offset / alignment * alignment;
        // Whole 16-byte words, as far as the buffer goes, and never nothing.
        let end = end.max(offset + 4).next_multiple_of(16).min(buffer.size());
        Self {
            buffer,
            start,
            elements: ((offset - start) / element) as u32,
            bytes: ((end - start) / 4 * 4).max(4),
        }
    }

    fn rows(logits: &GpuLogits<'a>, chunk: &Chunk, alignment: u64) -> Self {
        let bytes = logits.storage.bytes() as u64;
        let stride = logits.row_stride as u64 * bytes;
        let offset = logits.offset + chunk.rows.start as u64 * stride;
        let last = logits.offset + (chunk.rows.end as u64 - 1) * stride;
        let end = last + logits.classes as u64 * bytes;
        Self::new(logits.buffer, offset, end, bytes, alignment)
    }

    fn items(slice: &GpuSlice<'a>, chunk: &Chunk, item: u64, alignment: u64) -> Self {
        let offset = slice.offset + chunk.rows.start as u64 * item;
        let end = slice.offset + chunk.rows.end as u64 * item;
        Self::new(slice.buffer, offset, end, item, alignment)
    }

    fn whole(buffer: &'a wgpu::Buffer) -> Self {
        Self {
            buffer,
            start: 0,
            elements: 0,
            bytes: buffer.size(),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.buffer == other.buffer
            && self.start < other.start + other.bytes
            && other.start < self.start + self.bytes
    }

    pub fn resource(&self) -> wgpu::BindingResource<'a> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: self.buffer,
            offset: self.start,
            size: wgpu::BufferSize::new(self.bytes),
        })
    }
}

/// Turns a plan into dispatches: which buffers are bound where, and from which element on.
pub(super) struct Recorder<'a> {
    gpu: &'a Gpu,
    pub plan: &'a Plan,
    batch: &'a GpuBatch<'a>,
    outputs: &'a GpuOutputs<'a>,
    workspace: &'a Workspace,
    params: Params,
}

impl<'a> Recorder<'a> {
    pub fn new(
        gpu: &'a Gpu,
        plan: &'a Plan,
        config: &Config,
        progress: Progress,
        batch: &'a GpuBatch<'a>,
        outputs: &'a GpuOutputs<'a>,
        workspace: &'a Workspace,
    ) -> Self {
        let (student, teacher) = (&batch.student_logits, &batch.teacher_logits);
        let params = Params {
            classes: student.classes as u32,
            teacher_classes: student.classes.min(teacher.classes) as u32,
            student_stride: student.row_stride as u32,
            teacher_stride: teacher.row_stride as u32,
            grad_stride: outputs.gradient.map_or(0, |g| g.row_stride as u32),
            count_labels: plan.count_labels,
            pieces: plan.pieces,
            piece_units: plan.piece_units(),
            write_results: u32::from(outputs.row_results.is_some()),
            ..Params::of(config, progress)
        };
        Self {
            gpu,
            plan,
            batch,
            outputs,
            workspace,
            params,
        }
    }

    /// The whole method.
    pub fn dispatches(&self) -> Vec<Dispatch<'a>> {
        let mut list = Vec::new();
        let chunks = &self.plan.chunks;
        let mut partials = 0;
        if self.plan.counts_first {
            list.extend(chunks.iter().map(|c| self.valid_rows(c)));
        }
        let workspace = self.workspace;
        if self.plan.in_steps() {
            for chunk in chunks {
                list.push(self.row_stats(chunk, partials));
                if self.plan.kind == PlanKind::Split {
                    if self.plan.sweeps_pieces() {
                        list.push(self.row_similarity(chunk));
                    }
                    list.push(self.merge_row_stats(chunk, partials));
                }
                partials += chunk.workgroups;
            }
            let observed = GpuSlice {
                buffer: &workspace.observed,
                offset: 0,
            };
            list.push(self.summary(partials, observed));
            partials = 0;
            for chunk in chunks {
                list.push(self.select(chunk, partials));
                partials += chunk.row_workgroups;
                // The decisions of one chunk at a time are kept.
                if self.outputs.gradient.is_some() {
                    list.push(self.weighted_cross_entropy(chunk));
                }
            }
        } else {
            for chunk in chunks {
                list.push(self.distill(chunk, partials));
                partials += chunk.workgroups;
            }
        }
        let own = GpuSlice {
            buffer: &workspace.summary,
            offset: 0,
        };
        list.push(self.summary(partials, self.outputs.summary.unwrap_or(own)));
        list
    }

    fn alignment(&self) -> u64 {
        self.gpu.limits.offset_alignment
    }

    /// Binds the logits, labels and gradient of a chunk, and says in the parameters where they start.
    fn matrices(&self, chunk: &Chunk, params: &mut Params) -> Vec<(u32, Window<'a>)> {
        let window = |logits: &GpuLogits<'a>| Window::rows(logits, chunk, self.alignment());
        let student = window(&self.batch.student_logits);
        let teacher = window(&self.batch.teacher_logits);
        params.rows = chunk.rows.len() as u32;
        params.workgroups = chunk.workgroups;
        params.student_offset = student.elements;
        params.teacher_offset = teacher.elements;
        vec![(1, student), (2, teacher)]
    }

    fn gradient(&self, chunk: &Chunk, params: &mut Params) -> Option<(u32, Window<'a>)> {
        let gradient = self.outputs.gradient.as_ref()?;
        let window = Window::rows(gradient, chunk, self.alignment());
        params.grad_offset = window.elements;
        Some((4, window))
    }

    fn labels(&self, chunk: &Chunk, params: &mut Params) -> (u32, Window<'a>) {
        let window = Window::items(&self.batch.labels, chunk, 4, self.alignment());
        params.label_offset = window.elements;
        (3, window)
    }

    /// The caller's row results, or something to bind in their place.
    fn results(&self, chunk: &Chunk, params: &mut Params) -> Window<'a> {
        let Some(results) = &self.outputs.row_results else {
            return Window::whole(&self.workspace.summary);
        };
        let window = Window::items(results, chunk, ROW_RESULT_BYTES, self.alignment());
        params.result_offset = window.elements;
        window
    }

    fn stats(&self, chunk: &Chunk, params: &mut Params) -> Window<'a> {
        let whole = GpuSlice {
            buffer: &self.workspace.row_stats,
            offset: 0,
        };
        let window = Window::items(&whole, chunk, ROW_STATS_BYTES, self.alignment());
        params.stats_offset = window.elements;
        window
    }

    fn partials(&self) -> (u32, Window<'a>) {
        (6, Window::whole(&self.workspace.partials))
    }

    fn valid_rows(&self, chunk: &Chunk) -> Dispatch<'a> {
        let mut params = self.params;
        params.rows = chunk.rows.len() as u32;
        params.workgroups = chunk.row_workgroups;
        let labels = self.labels(chunk, &mut params);
        Dispatch {
            kernel: Kernel::ValidRows,
            params,
            bindings: vec![labels, (7, Window::whole(&self.workspace.valid_rows))],
            workgroups: chunk.row_workgroups,
        }
    }

    fn distill(&self, chunk: &Chunk, partial_offset: u32) -> Dispatch<'a> {
        let mut params = Params {
            partial_offset,
            ..self.params
        };
        let mut bindings = self.matrices(chunk, &mut params);
        bindings.push(self.labels(chunk, &mut params));
        bindings.extend(self.gradient(chunk, &mut params));
        bindings.push((5, self.results(chunk, &mut params)));
        bindings.push(self.partials());
        bindings.push((7, Window::whole(&self.workspace.valid_rows)));
        Dispatch {
            kernel: Kernel::Distill,
            params,
            bindings,
            workgroups: chunk.workgroups,
        }
    }

    pub fn row_stats(&self, chunk: &Chunk, partial_offset: u32) -> Dispatch<'a> {
        let mut params = Params {
            partial_offset,
            ..self.params
        };
        let mut bindings = self.matrices(chunk, &mut params);
        bindings.push(self.labels(chunk, &mut params));
        bindings.push(if self.plan.kind == PlanKind::Split {
            (5, Window::whole(&self.workspace.pieces))
        } else {
            (5, self.stats(chunk, &mut params))
        });
        bindings.push(self.partials());
        Dispatch {
            kernel: Kernel::RowStats,
            params,
            bindings,
            workgroups: chunk.workgroups,
        }
    }

    fn row_similarity(&self, chunk: &Chunk) -> Dispatch<'a> {
        let mut params = self.params;
        let mut bindings = self.matrices(chunk, &mut params);
        bindings.push((5, Window::whole(&self.workspace.pieces)));
        bindings.push((8, Window::whole(&self.workspace.swept)));
        Dispatch {
            kernel: Kernel::RowSimilarity,
            params,
            bindings,
            workgroups: chunk.workgroups,
        }
    }

    fn merge_row_stats(&self, chunk: &Chunk, partial_offset: u32) -> Dispatch<'a> {
        let mut params = Params {
            partial_offset,
            rows: chunk.rows.len() as u32,
            workgroups: chunk.workgroups,
            ..self.params
        };
        let bindings = vec![
            (5, Window::whole(&self.workspace.pieces)),
            self.partials(),
            (7, Window::whole(&self.workspace.swept)),
            (8, self.stats(chunk, &mut params)),
        ];
        Dispatch {
            kernel: Kernel::MergeRowStats,
            params,
            bindings,
            workgroups: chunk.workgroups,
        }
    }

    pub fn select(&self, chunk: &Chunk, partial_offset: u32) -> Dispatch<'a> {
        let mut params = Params {
            partial_offset,
            rows: chunk.rows.len() as u32,
            workgroups: chunk.row_workgroups,
            ..self.params
        };
        let bindings = vec![
            (5, self.stats(chunk, &mut params)),
            self.partials(),
            (7, Window::whole(&self.workspace.observed)),
            (8, Window::whole(&self.workspace.decisions)),
            (9, self.results(chunk, &mut params)),
        ];
        Dispatch {
            kernel: Kernel::Select,
            params,
            bindings,
            workgroups: chunk.row_workgroups,
        }
    }

    pub fn weighted_cross_entropy(&self, chunk: &Chunk) -> Dispatch<'a> {
        let mut params = self.params;
        let mut bindings = self.matrices(chunk, &mut params);
        bindings.extend(self.gradient(chunk, &mut params));
        bindings.push((8, Window::whole(&self.workspace.decisions)));
        Dispatch {
            kernel: Kernel::WeightedCrossEntropy,
            params,
            bindings,
            workgroups: chunk.workgroups,
        }
    }

    pub fn softmax(&self, chunk: &Chunk) -> Dispatch<'a> {
        let mut params = self.params;
        let mut bindings = self.matrices(chunk, &mut params);
        bindings.truncate(1);
        bindings.extend(self.gradient(chunk, &mut params));
        Dispatch {
            kernel: Kernel::Softmax,
            params,
            bindings,
            workgroups: chunk.workgroups,
        }
    }

    fn summary(&self, partials: u32, target: GpuSlice<'a>) -> Dispatch<'a> {
        let bytes = target.offset + SUMMARY_BYTES;
        let window = Window::new(target.buffer, target.offset, bytes, 4, self.alignment());
        Dispatch {
            kernel: Kernel::Summary,
            params: Params {
                partials,
                ..self.params
            },
            bindings: vec![self.partials(), (7, window)],
            workgroups: 1,
        }
    }
}

/// What the structs of the device measure, checked where they are declared once more.
const _: () = {
    assert!(size_of::<crate::RowStats>() as u64 == ROW_STATS_BYTES);
    assert!(size_of::<crate::Decision>() as u64 == DECISION_BYTES);
    assert!(size_of::<crate::RowResult>() as u64 == ROW_RESULT_BYTES);
    assert!(size_of::<crate::Summary>() as u64 == SUMMARY_BYTES);
    assert!(PARTIAL_BYTES.is_multiple_of(16));
};
