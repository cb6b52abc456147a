//! Times of commands on a device, and its copy bandwidth.

use std::time::{Duration, Instant};

use wgpu_distill::gpu::Gpu;
use wgpu_distill::wgpu;

/// Copies 16 bytes per invocation.
const COPY: &str = "
@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> copy: array<vec4<u32>>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let at = (group.y * groups.x + group.x) * 256u + i;
    if (at < arrayLength(&source)) {
        copy[at] = source[at];
    }
}";

/// Arithmetic without memory. The condition is never true.
const LOAD: &str = "
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    var x = f32(id.x);
    for (var i = 0u; i < 4096u; i++) {
        x = fma(x, 0.999, 0.5);
    }
    if (x < -1.0) {
        data[0] = 0u;
    }
}";

/// A GPU lowers its clocks between short submissions, which are then measured up to three times too slow. So a load of about this
/// duration precedes what is timed, as other work does in training.
const LOAD_TIME: Duration = Duration::from_micros(700);

pub(super) struct Timer {
    device: wgpu::Device,
    queue: wgpu::Queue,
    stamps: Option<Stamps>,
    load: Option<Load>,
    software: bool,
}

struct Stamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readable: wgpu::Buffer,
}

struct Load {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    workgroups: u32,
}

impl Load {
    fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(self.workgroups, 1, 1);
    }
}

impl Timer {
    /// `first` is a buffer that the timed commands use first. They then wait for the load.
    pub fn new(gpu: &Gpu, first: &wgpu::Buffer) -> Self {
        use wgpu::BufferUsages as Usage;
        let (device, queue) = (gpu.device().clone(), gpu.queue().clone());
        let make = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 16,
                usage,
                mapped_at_creation: false,
            })
        };
        let inside = wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let stamps = device.features().contains(inside).then(|| Stamps {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: make(Usage::QUERY_RESOLVE | Usage::COPY_SRC),
            readable: make(Usage::COPY_DST | Usage::MAP_READ),
        });
        let mut timer = Self {
            device,
            queue,
            stamps,
            load: None,
            software: gpu.limits().software,
        };
        // The clock's time would include the load.
        if timer.stamps.is_some() && !timer.software {
            let pipeline = timer.pipeline(LOAD);
            let group = timer.group(&pipeline, &[first]);
            let mut load = Load {
                pipeline,
                group,
                workgroups: 4096,
            };
            // The first run compiles and raises the clocks.
            let times = [(); 3].map(|()| timer.time(|encoder| load.record(encoder)));
            let scale = LOAD_TIME.as_secs_f64() / times[2].as_secs_f64();
            load.workgroups = (4096.0 * scale).clamp(1.0, 65_535.0) as u32;
            timer.load = Some(load);
        }
        timer
    }

    fn pipeline(&self, text: &str) -> wgpu::ComputePipeline {
        let module = self
            .device
            .create_shader_module(wgpu::ShaderModuleDescriptor {
                label: None,
                source: wgpu::ShaderSource::Wgsl(text.into()),
            });
        self.device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: Default::default(),
                cache: None,
            })
    }

    fn group(
        &self,
        pipeline: &wgpu::ComputePipeline,
        buffers: &[&wgpu::Buffer],
    ) -> wgpu::BindGroup {
        let entries = buffers.iter().zip(0..);
        let entries: Vec<_> = entries
            .map(|(buffer, binding)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&Default::default())
    }

    /// The device's time of the commands that `record` puts into an encoder. Without time stamps the clock's time.
    pub fn time(&self, record: impl Fn(&mut wgpu::CommandEncoder)) -> Duration {
        let Some(s) = &self.stamps else {
            return self.wall(record);
        };
        let mut encoder = self.encoder();
        if let Some(load) = &self.load {
            load.record(&mut encoder);
        }
        encoder.write_timestamp(&s.queries, 0);
        record(&mut encoder);
        encoder.write_timestamp(&s.queries, 1);
        encoder.resolve_query_set(&s.queries, 0..2, &s.resolved, 0);
        encoder.copy_buffer_to_buffer(&s.resolved, 0, &s.readable, 0, 16);
        self.queue.submit([encoder.finish()]);
        let bytes = self.mapped(&s.readable, 16);
        let ticks: [u64; 2] = bytemuck::pod_read_unaligned(&bytes);
        // Some drivers return zeros or decreasing time stamps. The clock's time is then used.
        let elapsed = ticks[1].saturating_sub(ticks[0]);
        if ticks[0] == 0 || elapsed == 0 {
            return self.wall(record);
        }
        let period = f64::from(self.queue.get_timestamp_period());
        Duration::from_nanos((elapsed as f64 * period) as u64)
    }

    /// The clock's time from encoding to the end of the commands that `record` puts into an encoder.
    pub fn wall(&self, record: impl Fn(&mut wgpu::CommandEncoder)) -> Duration {
        let start = Instant::now();
        let mut encoder = self.encoder();
        record(&mut encoder);
        self.queue.submit([encoder.finish()]);
        self.wait();
        start.elapsed()
    }

    fn wait(&self) {
        let done = self.device.poll(wgpu::PollType::wait_indefinitely());
        done.expect("the device works");
    }

    pub fn mapped(&self, buffer: &wgpu::Buffer, bytes: u64) -> Vec<u8> {
        let slice = buffer.slice(..bytes);
        slice.map_async(wgpu::MapMode::Read, |done| {
            done.expect("mapping for reading")
        });
        self.wait();
        let out = slice.get_mapped_range().expect("mapped").to_vec();
        buffer.unmap();
        out
    }

    /// Bytes read and written per second by a large copy: the faster of the driver's copy and a kernel. Some drivers copy with an engine that
    /// has a fifth of the memory's bandwidth.
    pub fn copy_bandwidth(&self) -> f64 {
        let limits = self.device.limits();
        // Far more than caches hold.
        let most = if self.software { 128 << 20 } else { 512 << 20 };
        let bytes = (limits.max_buffer_size / 2)
            .min(limits.max_storage_buffer_binding_size)
            .min(most)
            / 16
            * 16;
        let make = || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage: wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST
                    | wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        };
        let (from, to) = (make(), make());
        let pipeline = self.pipeline(COPY);
        let group = self.group(&pipeline, &[&from, &to]);
        let workgroups = (bytes / 16).div_ceil(256);
        let (across, down) = (32_768.min(workgroups), workgroups.div_ceil(32_768));
        let by_driver = |encoder: &mut wgpu::CommandEncoder| {
            encoder.copy_buffer_to_buffer(&from, 0, &to, 0, bytes);
        };
        let by_kernel = |encoder: &mut wgpu::CommandEncoder| {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(across as u32, down as u32, 1);
        };
        let mut best = Duration::MAX;
        for _ in 0..8 {
            best = best.min(self.time(by_driver));
            if !self.software {
                best = best.min(self.time(by_kernel));
            }
        }
        (2 * bytes) as f64 / best.as_secs_f64()
    }
}
