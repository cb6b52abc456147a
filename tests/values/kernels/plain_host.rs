//! A host that uses only the shader text of this crate: it assembles a kernel with its own tiling and dispatches it.

use wgpu_distill::gpu::Gpu;
use wgpu_distill::shader::{
    Access, BindingKind, Dialect, Kernel, LossVariant, Params, Variant, assemble,
};
use wgpu_distill::wgpu::{self, util::DeviceExt};
use wgpu_distill::{Config, Progress, Storage};

/// The softmax of contiguous f32 rows, with `lanes` per row and workgroup.
pub fn softmax(
    gpu: &Gpu,
    lanes: u32,
    values: &[f32],
    classes: usize,
    temperature: f32,
) -> Vec<f32> {
    let rows = (values.len() / classes) as u32;
    let variant = Variant {
        student: Storage::F32,
        teacher: Storage::F32,
        gradient: Some(Storage::F32),
        access: Access::Element,
        loss: LossVariant::of(&Config::default()),
        accumulate: false,
        shared_buffers: false,
        in_place: false,
        soft_labels: None,
        row_weights: false,
        sharded: false,
        list_slots: 0,
        workgroup_size: lanes,
        lanes,
        vectors_per_lane: 1,
        one_tile: false,
        one_group: false,
        subgroup_min: gpu.limits().subgroup.map(|(min, _)| min),
    };
    let config = Config {
        student_temperature: temperature,
        ..Config::default()
    };
    let params = Params {
        rows,
        classes: classes as u32,
        // Fewer workgroups than rows: each processes several rows in sequence.
        workgroups: 2,
        student_stride: classes as u32,
        grad_stride: classes as u32,
        segments: 1,
        segment_vectors: u32::MAX,
        ..Params::of(&config, Progress::new(0, 1))
    };
    let device = gpu.device();
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(assemble(Kernel::Softmax, &variant, Dialect::Naga).into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let buffer = |contents: &[u8], usage| {
        let descriptor = wgpu::util::BufferInitDescriptor {
            label: None,
            contents,
            usage,
        };
        device.create_buffer_init(&descriptor)
    };
    let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let uniform = buffer(bytemuck::bytes_of(&params), wgpu::BufferUsages::UNIFORM);
    let logits = buffer(bytemuck::cast_slice(values), storage);
    let out = buffer(&vec![0xa5; 4 * values.len()], storage);
    let bindings = Kernel::Softmax.bindings(&variant);
    let entries: Vec<_> = bindings
        .iter()
        .map(|binding| wgpu::BindGroupEntry {
            binding: binding.index,
            resource: match binding.kind {
                BindingKind::Uniform => uniform.as_entire_binding(),
                BindingKind::Read => logits.as_entire_binding(),
                BindingKind::ReadWrite => out.as_entire_binding(),
            },
        })
        .collect();
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(params.workgroups, 1, 1);
    drop(pass);
    let read = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: out.size(),
        usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    encoder.copy_buffer_to_buffer(&out, 0, &read, 0, out.size());
    gpu.queue().submit([encoder.finish()]);
    read.slice(..).map_async(wgpu::MapMode::Read, |done| {
        done.expect("mapping for reading")
    });
    device
        .poll(wgpu::PollType::wait_indefinitely())
        .expect("the device is there");
    let bytes = read.slice(..).get_mapped_range().expect("mapped").to_vec();
    bytemuck::pod_collect_to_vec(&bytes)
}
