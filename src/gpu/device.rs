//! A device, its queue, and the kernels compiled for it.

use std::sync::Arc;

use super::adapters::{self, AdapterDescription, is_hardware};
use super::pipelines::Pipelines;
use crate::plan::Limits;
use crate::{Error, Result};

/// The GPU engine: a device with the kernels compiled for it. Clones are cheap and share the kernels. Any number of threads may use an
/// engine at the same time.
#[derive(Clone, Debug)]
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) pipelines: Arc<Pipelines>,
    pub(super) limits: Limits,
    /// True if the engine refuses bindings that browsers refuse.
    pub(super) browser_rules: bool,
    description: Arc<str>,
    /// True if the caller's thread may block, so that no thread is needed to drive the device.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) may_block: bool,
}

impl Gpu {
    /// Opens a device on the best hardware adapter that gives one: discrete before integrated before virtual.
    ///
    /// # Errors
    /// [`Error::NoHardwareGpu`] if there is no hardware adapter. [`Error::NoDevice`] with the best adapter's reason if no adapter gives a
    /// device.
    pub async fn hardware() -> Result<Self> {
        let instance = adapters::instance();
        let mut found = adapters::all(&instance).await;
        let names: Vec<String> = found
            .iter()
            .map(|a| adapters::name(&a.get_info()))
            .collect();
        found.retain(|a| is_hardware(&a.get_info()));
        found.sort_by_key(|a| adapters::rank(&a.get_info()));
        let opened = adapters::first_that_opens(&found, Self::on).await;
        opened.unwrap_or_else(|| {
            Err(Error::NoHardwareGpu {
                available: match names.as_slice() {
                    [] => "none".to_owned(),
                    some => format!("{} (software, only used when named)", some.join(", ")),
                },
            })
        })
    }

    /// Opens a device on the first adapter, hardware before software, whose [name](AdapterDescription::name) contains `name` in upper or lower case.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] with the names of all adapters, also for an empty `name`; [`Error::NoDevice`].
    pub async fn named(name: &str) -> Result<Self> {
        let instance = adapters::instance();
        let adapter = adapters::named(&instance, name).await?;
        Self::on(&adapter).await
    }

    /// A new device on an adapter, with the adapter's limits and the features that make kernels faster.
    ///
    /// # Errors
    /// [`Error::NoDevice`] with the driver's reason.
    pub async fn on(adapter: &wgpu::Adapter) -> Result<Self> {
        let useful = wgpu::Features::SUBGROUP
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("wgpu-distill"),
            required_features: adapter.features() & useful,
            required_limits: adapter.limits(),
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        });
        let (device, queue) = request.await.map_err(|e| Error::NoDevice {
            adapter: adapters::name(&adapter.get_info()),
            reason: e.to_string(),
        })?;
        let description = AdapterDescription::of(adapter).to_string();
        Ok(Self::from_parts(device, queue, description))
    }

    /// A context on an existing device and queue. The device's callbacks stay as they are.
    ///
    /// A device with default limits and no features suffices. The kernels are faster if [`wgpu::Features::SUBGROUP`] is enabled.
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        let info = device.adapter_info();
        let description = format!("{} ({:?})", adapters::name(&info), info.backend);
        Self::from_parts(device.clone(), queue.clone(), description)
    }

    fn from_parts(device: wgpu::Device, queue: wgpu::Queue, description: String) -> Self {
        let limits = limits_of(&device);
        let browser_rules = device.adapter_info().backend == wgpu::Backend::BrowserWebGpu;
        Self {
            device,
            queue,
            browser_rules,
            pipelines: Arc::default(),
            limits,
            description: description.into(),
            #[cfg(not(target_arch = "wasm32"))]
            may_block: false,
        }
    }

    /// The same context for blocking calls: the thread that waits drives the device.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn blocking(&self) -> Self {
        Self {
            may_block: true,
            ..self.clone()
        }
    }

    /// A context on the same device that uses no subgroup operations.
    pub fn without_subgroups(&self) -> Self {
        let limits = Limits {
            subgroup: None,
            ..self.limits
        };
        Self {
            limits,
            description: format!("{}, plain", self.description).into(),
            ..self.clone()
        }
    }

    /// A context on the same device under the rules that browsers enforce. Two bindings of a dispatch may not overlap if one of them is
    /// written, and bindings start at multiples of 256 bytes. An output that starts less than 256 bytes after other data in the same
    /// buffer is therefore refused with [`Error::BufferOverlap`]. Use it to develop for browsers on a native device.
    pub fn with_browser_rules(&self) -> Self {
        let limits = Limits {
            offset_alignment: self.limits.offset_alignment.max(256),
            ..self.limits
        };
        Self {
            limits,
            browser_rules: true,
            ..self.clone()
        }
    }

    /// The adapter's name, backend and abilities as text.
    pub fn describe(&self) -> String {
        self.description.to_string()
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// The queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// The properties of the device that plans depend on.
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

fn limits_of(device: &wgpu::Device) -> Limits {
    let limits = device.limits();
    let info = device.adapter_info();
    let subgroup = device.features().contains(wgpu::Features::SUBGROUP);
    let (min, max) = (info.subgroup_min_size, info.subgroup_max_size);
    // The kernels need subgroup sizes that are powers of two.
    let usable = subgroup && min.is_power_of_two() && max.is_power_of_two() && min <= max;
    Limits {
        binding_bytes: limits.max_storage_buffer_binding_size,
        buffer_bytes: limits.max_buffer_size,
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        offset_alignment: u64::from(limits.min_storage_buffer_offset_alignment.max(16)),
        workgroup_invocations: limits
            .max_compute_invocations_per_workgroup
            .min(limits.max_compute_workgroup_size_x),
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        workgroups: limits.max_compute_workgroups_per_dimension,
        subgroup: usable.then_some((min, max)),
        software: !is_hardware(&info),
        ..Limits::DEFAULT
    }
    .with_registers_of(info.vendor)
    .with_registers_of_driver(&info.driver)
}
