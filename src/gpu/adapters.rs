//! What adapters there are and what each supports.

use std::fmt;

use crate::{Error, Result};

/// One adapter, as [`adapters`] lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterDescription {
    /// Its name; a part of it, in any case, selects it in [`Engine::gpu`](crate::Engine::gpu).
    pub name: String,
    /// Vulkan, Metal, DX12 or browser WebGPU.
    pub backend: wgpu::Backend,
    /// The kind of device.
    pub device_type: wgpu::DeviceType,
    /// The driver and its version, as it reports itself.
    pub driver: String,
    /// Whether it runs on a GPU. [`Engine::auto`](crate::Engine::auto) takes no other.
    pub hardware: bool,
    /// Smallest and largest subgroup, where subgroup operations may be used.
    pub subgroup: Option<(u32, u32)>,
    /// Bytes of the largest matrix chunk that one dispatch can bind.
    pub max_binding_bytes: u64,
    /// Whether kernels can be timed.
    pub timestamps: bool,
}

impl AdapterDescription {
    pub(super) fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let features = adapter.features();
        let subgroup = features.contains(wgpu::Features::SUBGROUP);
        Self {
            hardware: is_hardware(&info),
            driver: format!("{} {}", info.driver, info.driver_info)
                .trim()
                .to_owned(),
            backend: info.backend,
            device_type: info.device_type,
            subgroup: subgroup.then_some((info.subgroup_min_size, info.subgroup_max_size)),
            max_binding_bytes: adapter.limits().max_storage_buffer_binding_size,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            name: info.name,
        }
    }
}

impl fmt::Display for AdapterDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.hardware {
            "hardware"
        } else {
            "software"
        };
        write!(f, "{} ({:?}, {kind}", self.name, self.backend)?;
        if !self.driver.is_empty() {
            write!(f, ", {}", self.driver)?;
        }
        match self.subgroup {
            Some((min, max)) if min == max => write!(f, ", subgroups of {min}")?,
            Some((min, max)) => write!(f, ", subgroups of {min} to {max}")?,
            None => write!(f, ", no subgroup operations")?,
        }
        write!(f, ", bindings up to {} MiB)", self.max_binding_bytes >> 20)
    }
}

pub(super) fn is_hardware(info: &wgpu::AdapterInfo) -> bool {
    use wgpu::DeviceType::{DiscreteGpu, IntegratedGpu, VirtualGpu};
    // Browsers do not say what they run on; what they offer without being asked for a fallback is a GPU.
    let in_browser = info.backend == wgpu::Backend::BrowserWebGpu;
    in_browser || matches!(info.device_type, DiscreteGpu | IntegratedGpu | VirtualGpu)
}

pub(super) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN
        | wgpu::Backends::METAL
        | wgpu::Backends::DX12
        | wgpu::Backends::BROWSER_WEBGPU;
    // Validation layers and shader symbols are the application's affair.
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

pub(super) async fn all(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    instance.enumerate_adapters(wgpu::Backends::all()).await
}

/// Every adapter that wgpu reaches here, software ones included.
pub async fn adapters() -> Vec<AdapterDescription> {
    let found = all(&instance()).await;
    found.iter().map(AdapterDescription::of).collect()
}

/// The first adapter, hardware before software, whose name contains `wanted`, whatever the case.
pub(super) async fn named(instance: &wgpu::Instance, wanted: &str) -> Result<wgpu::Adapter> {
    let mut found = all(instance).await;
    found.sort_by_key(|a| rank(&a.get_info()));
    let lower = wanted.to_lowercase();
    let matches = |a: &&wgpu::Adapter| a.get_info().name.to_lowercase().contains(&lower);
    // A blank name would match every adapter.
    if !lower.trim().is_empty()
        && let Some(adapter) = found.iter().find(matches)
    {
        return Ok(adapter.clone());
    }
    let names: Vec<String> = found.iter().map(|a| a.get_info().name).collect();
    Err(Error::NoAdapter {
        wanted: wanted.to_owned(),
        available: if names.is_empty() {
            "none (is a Vulkan, Metal or DX12 driver installed?)".to_owned()
        } else {
            names.join(", ")
        },
    })
}

/// Discrete before integrated before virtual before software.
pub(super) fn rank(info: &wgpu::AdapterInfo) -> u32 {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        _ => 3,
    }
}

/// The first that opens; else the error of the first, which is the best. None where there are none.
pub(super) async fn first_that_opens<A, T>(
    found: &[A],
    open: impl AsyncFn(&A) -> Result<T>,
) -> Option<Result<T>> {
    let mut refused = None;
    for adapter in found {
        match open(adapter).await {
            Ok(opened) => return Some(Ok(opened)),
            Err(error) => refused = refused.or(Some(Err(error))),
        }
    }
    refused
}
