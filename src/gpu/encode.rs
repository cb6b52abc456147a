//! The buffers door: records a plan's dispatches into the caller's encoder, on the caller's buffers.

use std::sync::Arc;

use super::Gpu;
use super::dispatch::{Buffers, lists, overlap};
use super::memory::{Upload, with_memory};
use super::pipelines::Pipeline;
use super::workspace::Workspace;
use crate::params::Params;
use crate::plan::{Dispatch, Matrix, Operand, Plan, Problem, ROW_RESULT_BYTES, SUMMARY_BYTES};
use crate::shader::Kernel;
use crate::{Config, Error, Progress, Result, Storage, validate};

/// A place in a buffer of the context's device.
#[derive(Clone, Copy, Debug)]
pub struct GpuSlice<'a> {
    /// The buffer, with usage `STORAGE`.
    pub buffer: &'a wgpu::Buffer,
    /// Bytes from its start, a multiple of 4.
    pub offset: u64,
}

/// A matrix `[rows, classes]` in a buffer. Row `r` starts `r * row_stride` elements after `offset`.
#[derive(Clone, Copy, Debug)]
pub struct GpuLogits<'a> {
    /// The buffer, with usage `STORAGE`, of the context's device. A buffer that is destroyed, mapped or of another device is reported by wgpu
    /// to the device's error handler; one of another *instance* makes wgpu panic, or take another buffer for it.
    pub buffer: &'a wgpu::Buffer,
    /// Bytes from its start to row 0, a multiple of the element's size. Multiples of 16 are fastest.
    pub offset: u64,
    /// How its numbers are stored.
    pub storage: Storage,
    /// Numbers in a row.
    pub classes: usize,
    /// Elements from row to row, at least `classes`. Multiples of 4 are fastest.
    pub row_stride: usize,
}

impl<'a> GpuLogits<'a> {
    /// Rows close together from the start of a buffer.
    pub fn new(buffer: &'a wgpu::Buffer, storage: Storage, classes: usize) -> Self {
        Self {
            buffer,
            offset: 0,
            storage,
            classes,
            row_stride: classes,
        }
    }

    pub(super) fn matrix(&self) -> Matrix {
        Matrix {
            storage: self.storage,
            row_stride: self.row_stride,
            offset: self.offset,
            buffer_bytes: self.buffer.size(),
        }
    }
}

/// One step's work on buffers.
#[derive(Clone, Copy, Debug)]
pub struct GpuBatch<'a> {
    /// Rows of the batch.
    pub rows: usize,
    /// `[rows, classes]`
    pub student_logits: GpuLogits<'a>,
    /// `[rows, classes]`
    pub teacher_logits: GpuLogits<'a>,
    /// `i32 [rows]`. A label out of range is not refused here: its row's loss and gradient become NaN, and the summary counts it.
    pub labels: GpuSlice<'a>,
}

/// Where results go; what is `None` is not computed, or stays in the workspace.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuOutputs<'a> {
    /// One [`Summary`](crate::Summary), 32 bytes.
    pub summary: Option<GpuSlice<'a>>,
    /// [`RowResult`](crate::RowResult)` [rows]`, 16 bytes each.
    pub row_results: Option<GpuSlice<'a>>,
    /// `[rows, classes]`, as many classes as the student. It may be the student's logits themselves (same buffer, offset, stride
    /// and storage): they are then overwritten, so nothing else may still need them.
    pub gradient: Option<GpuLogits<'a>>,
}

/// Bytes `[start, end)` of a buffer, under the name it has in errors.
struct Region<'a> {
    name: &'static str,
    buffer: &'a wgpu::Buffer,
    start: u64,
    end: u64,
}

impl<'a> Region<'a> {
    fn slice(name: &'static str, slice: &GpuSlice<'a>, bytes: u64) -> Self {
        Self {
            name,
            buffer: slice.buffer,
            start: slice.offset,
            end: slice.offset.saturating_add(bytes),
        }
    }

    fn logits(name: &'static str, logits: &GpuLogits<'a>, rows: usize) -> Self {
        Self {
            name,
            buffer: logits.buffer,
            start: logits.offset,
            end: logits.matrix().end(rows, logits.classes),
        }
    }

    fn check(&self, alignment: u64) -> Result<()> {
        let usage = self.buffer.usage();
        if !usage.contains(wgpu::BufferUsages::STORAGE) {
            return Err(Error::BufferUsage {
                name: self.name,
                needed: "STORAGE".to_owned(),
                got: format!("{usage:?}"),
            });
        }
        // Bindings are whole 32-bit words: an odd number of 16-bit elements needs one more.
        let end = self.end.checked_next_multiple_of(4).unwrap_or(u64::MAX);
        validate::region(self.name, self.start..end, alignment, self.buffer.size())
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.buffer == other.buffer && self.start < other.end && other.start < self.end
    }
}

/// Checks the buffers and describes them for the plan.
pub(super) fn problem(
    config: &Config,
    batch: &GpuBatch<'_>,
    outputs: &GpuOutputs<'_>,
) -> Result<Problem> {
    let (student, teacher) = (&batch.student_logits, &batch.teacher_logits);
    let rows = batch.rows;
    validate::shape("student_logits", rows, student.classes, student.row_stride)?;
    validate::shape("teacher_logits", rows, teacher.classes, teacher.row_stride)?;
    validate::classes(config, student.classes, teacher.classes)?;
    let mut inputs = vec![
        Region::logits("student_logits", student, rows),
        Region::logits("teacher_logits", teacher, rows),
        Region::slice("labels", &batch.labels, 4 * rows as u64),
    ];
    inputs[0].check(student.storage.bytes() as u64)?;
    inputs[1].check(teacher.storage.bytes() as u64)?;
    inputs[2].check(4)?;
    let mut written = Vec::new();
    let mut in_place = false;
    if let Some(gradient) = &outputs.gradient {
        validate::shape("gradient", rows, gradient.classes, gradient.row_stride)?;
        if gradient.classes != student.classes {
            return Err(Error::GradientShape {
                classes: student.classes,
                got: gradient.classes,
            });
        }
        let region = Region::logits("gradient", gradient, rows);
        region.check(gradient.storage.bytes() as u64)?;
        in_place = gradient.buffer == student.buffer && gradient.matrix() == student.matrix();
        written.push(region);
    }
    if let Some(results) = &outputs.row_results {
        let region = Region::slice("row_results", results, ROW_RESULT_BYTES * rows as u64);
        region.check(ROW_RESULT_BYTES)?;
        written.push(region);
    }
    if let Some(summary) = &outputs.summary {
        let region = Region::slice("summary", summary, SUMMARY_BYTES);
        region.check(256)?;
        written.push(region);
    }
    let mut shared_buffers = false;
    if in_place {
        inputs.remove(0);
    }
    for (i, output) in written.iter().enumerate() {
        let others = inputs.iter().chain(&written[i + 1..]);
        for other in others {
            if output.overlaps(other) {
                return Err(Error::BufferOverlap {
                    first: output.name,
                    second: other.name,
                    why: "only the gradient may lie on the student's logits, with the same offset, stride and storage",
                });
            }
        }
        shared_buffers |= inputs.iter().any(|input| input.buffer == output.buffer);
    }
    Ok(Problem {
        rows,
        classes: student.classes,
        teacher_classes: teacher.classes.min(student.classes),
        student: student.matrix(),
        teacher: teacher.matrix(),
        gradient: outputs.gradient.map(|g| g.matrix()),
        shared_buffers,
        in_place,
    })
}

impl Gpu {
    /// Records the whole method into `encoder`: nothing is submitted, waited for or read back.
    ///
    /// Allocates a uniform buffer, and a [`Workspace`] if none is given; nothing of the size rows x classes. The first call of a
    /// variant compiles its kernels; [`prepare`](Self::prepare) does it earlier.
    ///
    /// # Errors
    /// Everything that can be checked without looking into the buffers, and [`Error::OutOfMemory`] where there is no memory for what is
    /// allocated (in a browser, which answers later, the device's error handler hears of that instead). Either leaves the encoder as it was.
    /// Labels cannot be checked: see [`GpuBatch::labels`].
    pub fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        config: &Config,
        progress: Progress,
        batch: &GpuBatch<'_>,
        outputs: &GpuOutputs<'_>,
        workspace: Option<&Workspace>,
    ) -> Result<()> {
        validate::progress(config.selection, progress)?;
        let plan = self.plan(config, batch, outputs)?;
        let dispatches = plan.dispatches(config, progress, &lists(batch, outputs))?;
        self.follow(encoder, &plan, &dispatches, batch, outputs, workspace)
    }

    /// [`encode`](Self::encode) with a plan of the caller's, made for the same problem.
    ///
    /// # Errors
    /// Those of `encode`, [`Error::WorkspaceTooSmall`], and [`Error::PlanMismatch`] for a plan that was made for another problem, or for a
    /// device that offers what this one does not.
    #[allow(clippy::too_many_arguments, reason = "each is a thing of its own")]
    pub fn encode_plan(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        plan: &Plan,
        config: &Config,
        progress: Progress,
        batch: &GpuBatch<'_>,
        outputs: &GpuOutputs<'_>,
        workspace: Option<&Workspace>,
    ) -> Result<()> {
        validate::config(config)?;
        validate::progress(config.selection, progress)?;
        if !plan.is_for(config, &problem(config, batch, outputs)?) {
            return Err(Error::PlanMismatch);
        }
        let dispatches = plan.dispatches(config, progress, &lists(batch, outputs))?;
        if !plan.suits(&self.limits, &dispatches) {
            return Err(Error::PlanMismatch);
        }
        self.check_overlaps(&dispatches, batch, outputs)?;
        self.follow(encoder, plan, &dispatches, batch, outputs, workspace)
    }

    /// Under the rules of browsers: no two bindings of a dispatch may overlap where one of them is written.
    pub(super) fn check_overlaps(
        &self,
        dispatches: &[Dispatch],
        batch: &GpuBatch<'_>,
        outputs: &GpuOutputs<'_>,
    ) -> Result<()> {
        if !self.browser_rules {
            return Ok(());
        }
        match dispatches.iter().find_map(|d| overlap(d, batch, outputs)) {
            None => Ok(()),
            Some((first, second)) => Err(Error::BufferOverlap {
                first,
                second,
                why: "a browser binds nothing that is written over anything else, and bindings start at multiples of 256 bytes: use a buffer for each",
            }),
        }
    }

    /// Records the dispatches of a plan that is known to be for this problem and this device.
    fn follow(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        plan: &Plan,
        dispatches: &[Dispatch],
        batch: &GpuBatch<'_>,
        outputs: &GpuOutputs<'_>,
        workspace: Option<&Workspace>,
    ) -> Result<()> {
        let made;
        let workspace = match workspace {
            Some(workspace) if workspace.fits(plan) => workspace,
            Some(_) => {
                return Err(Error::WorkspaceTooSmall {
                    needed: plan.workspace_bytes(),
                });
            }
            None => {
                made = with_memory(&self.device, || Workspace::new(&self.device, plan))?;
                &made
            }
        };
        let buffers = Buffers {
            batch,
            outputs,
            workspace,
        };
        self.record(encoder, dispatches, &buffers)
    }

    /// Records dispatches as one compute pass. Until all that they need is there, nothing is recorded: what fails leaves the encoder as it was.
    pub(super) fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        dispatches: &[Dispatch],
        buffers: &Buffers<'_>,
    ) -> Result<()> {
        // One buffer for the parameters of all dispatches; fresh, because an earlier encoding may not have run yet.
        let alignment = self.device.limits().min_uniform_buffer_offset_alignment;
        let size = size_of::<Params>();
        let step = size.next_multiple_of(alignment as usize);
        let mut bytes = vec![0; step * dispatches.len()];
        for (slot, dispatch) in bytes.chunks_exact_mut(step).zip(dispatches) {
            slot[..size].copy_from_slice(bytemuck::bytes_of(&dispatch.params));
        }
        let usage = wgpu::BufferUsages::UNIFORM;
        let uniforms = Upload::new(&self.device, "params", &bytes, usage)?;
        let compiled = |d: &Dispatch| self.pipelines.get(&self.device, d.kernel, &d.variant);
        let pipelines: Vec<_> = dispatches.iter().map(compiled).collect::<Result<_>>()?;
        let group = |(i, (dispatch, pipeline)): (usize, (&Dispatch, &Arc<Pipeline>))| {
            let mut entries = vec![wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &uniforms.buffer,
                    offset: (i * step) as u64,
                    size: wgpu::BufferSize::new(size as u64),
                }),
            }];
            let windows = dispatch.windows.iter();
            entries.extend(windows.map(|(binding, window)| wgpu::BindGroupEntry {
                binding: binding.index,
                resource: buffers.resource(window),
            }));
            self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(dispatch.kernel.name()),
                layout: &pipeline.layout,
                entries: &entries,
            })
        };
        let each = || dispatches.iter().zip(&pipelines);
        let groups: Vec<_> = with_memory(&self.device, || each().enumerate().map(group).collect())?;
        uniforms.record(encoder);
        if dispatches.iter().any(|d| d.kernel == Kernel::ValidRows) {
            encoder.clear_buffer(buffers.workspace.buffer(Operand::ValidRows), 0, None);
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("wgpu-distill"),
            timestamp_writes: None,
        });
        for ((dispatch, pipeline), group) in each().zip(&groups) {
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(dispatch.workgroups, 1, 1);
        }
        Ok(())
    }
}
