//! Records a plan's dispatches into an encoder.

use std::sync::Arc;

use super::buffers::{CallerBuffers, GpuBatch, GpuOutputs};
use super::checks;
use super::device::Gpu;
use super::memory::{Upload, with_memory};
use super::pipelines::Pipeline;
use super::workspace::Workspace;
use crate::plan::{Dispatch, Operand, Plan, Tiling};
use crate::shader::Params;
use crate::{Config, Error, Progress, Result, validate};

impl Gpu {
    /// Returns the plan that [`encode`](Self::encode) would record, to print it or to size a [`Workspace`].
    ///
    /// # Errors
    /// Those of `encode`.
    pub fn plan(
        &self,
        config: &Config,
        batch: &GpuBatch<'_>,
        outputs: &GpuOutputs<'_>,
    ) -> Result<Plan> {
        self.checked_plan(config, CallerBuffers::new(batch, outputs), None)
    }

    /// Returns the plan with a tiling chosen by the caller, for [`encode_plan`](Self::encode_plan).
    ///
    /// # Errors
    /// Those of `encode`, and [`Error::Unsupported`] if the device cannot run such workgroups.
    pub fn plan_with_tiling(
        &self,
        config: &Config,
        batch: &GpuBatch<'_>,
        outputs: &GpuOutputs<'_>,
        tiling: &Tiling,
    ) -> Result<Plan> {
        self.checked_plan(config, CallerBuffers::new(batch, outputs), Some(tiling))
    }

    fn checked_plan(
        &self,
        config: &Config,
        buffers: CallerBuffers<'_>,
        tiling: Option<&Tiling>,
    ) -> Result<Plan> {
        let plan = self.plan_of(config, buffers, tiling)?;
        if self.browser_rules {
            // The bindings do not depend on the progress.
            let dispatches = plan.dispatches(config, Progress::new(0, 1), &buffers.lists())?;
            checks::overlaps(&dispatches, buffers)?;
        }
        Ok(plan)
    }

    pub(super) fn plan_of(
        &self,
        config: &Config,
        buffers: CallerBuffers<'_>,
        tiling: Option<&Tiling>,
    ) -> Result<Plan> {
        validate::config(config)?;
        let problem = checks::problem(config, buffers)?;
        match tiling {
            Some(tiling) => Plan::with_tiling(config, &problem, &self.limits, tiling),
            None => Plan::new(config, &problem, &self.limits),
        }
    }

    /// Compiles the kernels of a plan, so that the first [`encode`](Self::encode) finds them ready. If a compilation fails, `encode` tries again and
    /// returns the error.
    pub fn prepare(&self, plan: &Plan) {
        let _ = self.compile(plan);
    }

    /// [`prepare`](Self::prepare) with the error.
    pub(super) fn compile(&self, plan: &Plan) -> Result<()> {
        plan.kernels().into_iter().try_for_each(|kernel| {
            let variant = plan.variant_of(kernel);
            self.pipelines.get(&self.device, kernel, &variant).map(drop)
        })
    }

    /// Records the whole method into `encoder`. Does not submit, wait or read back.
    ///
    /// Allocates a uniform buffer, and a [`Workspace`] if none is given. No allocation has the size rows x classes. The first call of a
    /// variant compiles its kernels. [`prepare`](Self::prepare) compiles them earlier.
    ///
    /// # Errors
    /// An error for each bad argument that can be found without a read of the buffers. [`Error::OutOfMemory`] if the device has no
    /// memory for the allocations; a browser reports that later, to the device's error handler. After an error the encoder is
    /// unchanged. Labels are not checked: see [`GpuBatch::labels`].
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
        let buffers = CallerBuffers::new(batch, outputs);
        let plan = self.plan_of(config, buffers, None)?;
        let dispatches = plan.dispatches(config, progress, &buffers.lists())?;
        self.record_checked(encoder, &plan, &dispatches, buffers, workspace)
    }

    /// [`encode`](Self::encode) with a plan that was made earlier for the same problem.
    ///
    /// # Errors
    /// Those of `encode`, [`Error::WorkspaceTooSmall`], and [`Error::PlanMismatch`] for a plan that was made for another problem, or for a
    /// device that offers more than this one.
    #[allow(clippy::too_many_arguments, reason = "none of them belong together")]
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
        let buffers = CallerBuffers::new(batch, outputs);
        if !plan.is_for(config, &checks::problem(config, buffers)?) {
            return Err(Error::PlanMismatch);
        }
        let dispatches = plan.dispatches(config, progress, &buffers.lists())?;
        if !plan.is_supported_by(&self.limits, &dispatches) {
            return Err(Error::PlanMismatch);
        }
        self.record_checked(encoder, plan, &dispatches, buffers, workspace)
    }

    /// [`record_plan`](Self::record_plan) under the rules of browsers, where they hold.
    pub(super) fn record_checked(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        plan: &Plan,
        dispatches: &[Dispatch],
        buffers: CallerBuffers<'_>,
        workspace: Option<&Workspace>,
    ) -> Result<()> {
        if self.browser_rules {
            checks::overlaps(dispatches, buffers)?;
        }
        self.record_plan(encoder, plan, dispatches, buffers, workspace)
    }

    /// Records all dispatches of a plan that was made for these buffers and this device.
    pub(super) fn record_plan(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        plan: &Plan,
        dispatches: &[Dispatch],
        buffers: CallerBuffers<'_>,
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
        let buffer_of = |operand| match buffers.get(operand) {
            Some(buffer) => buffer,
            None => workspace.buffer(operand),
        };
        self.record(encoder, dispatches, &buffer_of)
    }

    /// Records dispatches as one compute pass. After an error the encoder is unchanged, because all resources are made before the first command.
    pub(super) fn record<'b>(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        dispatches: &[Dispatch],
        buffer_of: &dyn Fn(Operand) -> &'b wgpu::Buffer,
    ) -> Result<()> {
        // One new buffer holds the parameters of all dispatches. The buffer of an earlier call may still be in use.
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
            let binding = |index, buffer, offset, bytes| wgpu::BindGroupEntry {
                binding: index,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset,
                    size: wgpu::BufferSize::new(bytes),
                }),
            };
            let params = binding(0, &uniforms.buffer, (i * step) as u64, size as u64);
            let mut entries = vec![params];
            entries.extend(dispatch.windows.iter().map(|(b, window)| {
                binding(
                    b.index,
                    buffer_of(window.operand),
                    window.offset,
                    window.bytes,
                )
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
