//! Compiled kernels, made once for each variant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(test)]
use super::faults::{self, Fault};
use super::memory::unopposed;
use crate::Result;
use crate::shader::{Dialect, Kernel, Variant, assemble};

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
    /// What wgpu objects to, or has no memory for; the next call tries again. A browser says so later, to whoever watches the device.
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
        // Not while the map is held: a callback of the application's, which wgpu may call meanwhile, may call us.
        // Threads that come for the same one at the same time each compile it, and the first one done is kept.
        let made = unopposed(device, "the compilation of a kernel", || {
            #[cfg(test)]
            if faults::strikes(Fault::NoPipeline) {
                faults::object(device);
            }
            Arc::new(compile(device, kernel, variant))
        })?;
        Ok(self.map().entry(key).or_insert(made).clone())
    }

    fn map(&self) -> MutexGuard<'_, HashMap<(Kernel, Variant), Arc<Pipeline>>> {
        // A panic elsewhere while the map was held leaves it whole: entries are only ever added.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn compile(device: &wgpu::Device, kernel: Kernel, variant: &Variant) -> Pipeline {
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
    // SAFETY: only the counter that bounds loops is left out, and every loop of the kernels ends. Each counts an unsigned index up by
    // at least 1 to a bound that fits 32 bits with room, or halves a number down to 0, or doubles one up to a bound. What is counted by
    // is a constant, or the workgroups dispatched, which a plan has at least 1 of, or the size of the invocation's own subgroup,
    // which it is one of. `tests/values/house.rs` has the list of these loops. Bounds checks and all others stay on.
    let module = unsafe {
        let mut checks = wgpu::ShaderRuntimeChecks::checked();
        checks.force_loop_bounding = false;
        device.create_shader_module_trusted(descriptor, checks)
    };
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
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
    });
    let layout = pipeline.get_bind_group_layout(0);
    Pipeline { pipeline, layout }
}
