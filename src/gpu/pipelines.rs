//! Compiled kernels, made once for each variant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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
    pub fn get(&self, device: &wgpu::Device, kernel: Kernel, variant: &Variant) -> Arc<Pipeline> {
        let key = (kernel, kernel.canonical(variant));
        // A panic elsewhere while the map was held leaves it whole: entries are only ever added.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = made.entry(key);
        entry
            .or_insert_with(|| Arc::new(compile(device, kernel, variant)))
            .clone()
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
    // which it is one of. `tests/house.rs` has the list of these loops. Bounds checks and all others stay on.
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
