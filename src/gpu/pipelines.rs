//! Compiled kernels, one per variant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(test)]
use super::faults::{self, Fault};
use super::memory::with_errors;
use crate::shader::{Dialect, Kernel, Variant, assemble};
use crate::{Error, Result};

/// A compiled kernel.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

#[derive(Debug, Default)]
pub(super) struct Pipelines {
    made: Mutex<HashMap<(Kernel, Variant), Arc<Pipeline>>>,
}

impl Pipelines {
    /// The pipeline of a variant, compiled on first use.
    ///
    /// # Errors
    /// wgpu's errors. The next call compiles again. A browser reports them later, to the device's error handler.
    pub fn get(
        &self,
        device: &wgpu::Device,
        kernel: Kernel,
        variant: &Variant,
    ) -> Result<Arc<Pipeline>> {
        let key = (kernel, kernel.canonical(variant));
        if let Some(made) = self.map().get(&key) {
            return Ok(made.clone());
        }
        // The lock is not held: wgpu may run a callback of the application that calls this crate.
        // Threads that need the same pipeline at once each compile it. The first finished pipeline is kept.
        let pipeline = with_errors(device, "the compilation of a kernel", || {
            #[cfg(test)]
            if faults::strikes(Fault::NoPipeline) {
                faults::object(device);
            }
            compile(device, kernel, variant)
        })?;
        let layout = with_errors(device, "the layout of a kernel", || {
            pipeline.get_bind_group_layout(0)
        });
        // The compilation gave no error, so the device must be lost.
        let layout =
            layout.map_err(|e| Error::DeviceLost(format!("a kernel was not usable: {e}")))?;
        let made = Arc::new(Pipeline { pipeline, layout });
        Ok(self.map().entry(key).or_insert(made).clone())
    }

    fn map(&self) -> MutexGuard<'_, HashMap<(Kernel, Variant), Arc<Pipeline>>> {
        // A panic under the lock leaves the map intact: entries are only added.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn compile(device: &wgpu::Device, kernel: Kernel, variant: &Variant) -> wgpu::ComputePipeline {
    let dialect = if cfg!(target_arch = "wasm32") {
        Dialect::Standard
    } else {
        Dialect::Naga
    };
    let text = assemble(kernel, variant, dialect);
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(kernel.name()),
        source: wgpu::ShaderSource::Wgsl(text.into()),
    };
    // SAFETY: only the counter that bounds loops is left out, and every loop of the kernels ends. Each increases an unsigned index by
    // at least 1 up to a bound well below 2^32, or halves a number down to 0, or doubles one up to a bound. The increment is a constant,
    // the number of workgroups dispatched (at least 1), or the size of the invocation's subgroup (at least 1). `tests/values/house.rs` lists
    // these loops. All other checks stay on.
    let module = unsafe {
        let mut checks = wgpu::ShaderRuntimeChecks::checked();
        checks.force_loop_bounding = false;
        device.create_shader_module_trusted(descriptor, checks)
    };
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(kernel.name()),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            // The kernels write all workgroup memory before they read it.
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    })
}
