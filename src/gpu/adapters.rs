//! The adapters that wgpu finds, their names, and the choice among them.

use std::fmt;

use crate::{Error, Result};

/// One adapter, as [`adapters`] lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterDescription {
    /// The name, never empty. Any part of it, in upper or lower case, selects the adapter in [`Engine::gpu`](crate::Engine::gpu).
    ///
    /// Browsers hide the hardware's name: an adapter there is called `browser WebGPU adapter`, followed by the browser's description
    /// if it gives one.
    pub name: String,
    /// Vulkan, Metal, DX12 or browser WebGPU.
    pub backend: wgpu::Backend,
    /// The kind of device, as wgpu reports it. In a browser `Cpu` for a fallback adapter, `Other` for any other.
    pub device_type: wgpu::DeviceType,
    /// The driver and its version, as it reports itself. Empty in a browser.
    pub driver: String,
    /// True for a GPU, false for a software adapter. [`Engine::auto`](crate::Engine::auto) takes hardware only.
    ///
    /// In a browser every adapter but a fallback adapter counts as hardware.
    pub hardware: bool,
    /// Smallest and largest subgroup; `None` if subgroup operations may not be used.
    pub subgroup: Option<(u32, u32)>,
    /// Bytes of the largest matrix chunk that one dispatch can bind.
    pub max_binding_bytes: u64,
    /// True if kernels can be timed.
    pub timestamps: bool,
}

impl AdapterDescription {
    pub(super) fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let features = adapter.features();
        let subgroup = features.contains(wgpu::Features::SUBGROUP);
        Self {
            name: name(&info),
            hardware: is_hardware(&info),
            driver: format!("{} {}", info.driver, info.driver_info)
                .trim()
                .to_owned(),
            backend: info.backend,
            device_type: info.device_type,
            subgroup: subgroup.then_some((info.subgroup_min_size, info.subgroup_max_size)),
            max_binding_bytes: adapter.limits().max_storage_buffer_binding_size,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
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

/// The adapter's name, or a description if wgpu gives none.
pub(super) fn name(info: &wgpu::AdapterInfo) -> String {
    let reported = info.name.trim();
    match (info.backend, reported) {
        (wgpu::Backend::BrowserWebGpu, "") => "browser WebGPU adapter".to_owned(),
        (wgpu::Backend::BrowserWebGpu, _) => format!("browser WebGPU adapter: {reported}"),
        (backend, "") => format!("unnamed {backend:?} adapter"),
        _ => reported.to_owned(),
    }
}

/// Returns true for a GPU, false for an adapter that runs on the CPU.
pub(super) fn is_hardware(info: &wgpu::AdapterInfo) -> bool {
    use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu, VirtualGpu};
    match info.backend {
        // wgpu's web backend reports `Cpu` for a fallback adapter and `Other` for any other.
        wgpu::Backend::BrowserWebGpu => info.device_type != Cpu,
        _ => matches!(info.device_type, DiscreteGpu | IntegratedGpu | VirtualGpu),
    }
}

pub(super) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN
        | wgpu::Backends::METAL
        | wgpu::Backends::DX12
        | wgpu::Backends::BROWSER_WEBGPU;
    // The application decides on validation layers and shader symbols.
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn all(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    instance.enumerate_adapters(wgpu::Backends::all()).await
}

/// The one adapter that a browser gives. `enumerate_adapters` states no power preference in a browser, and may get an integrated GPU
/// although there is a discrete one.
#[cfg(target_arch = "wasm32")]
pub(super) async fn all(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    let adapter = instance.request_adapter(&options).await;
    adapter.into_iter().collect()
}

/// Every adapter that wgpu finds, including software adapters. In a browser: the one that the browser chooses, or none.
pub async fn adapters() -> Vec<AdapterDescription> {
    let found = all(&instance()).await;
    found.iter().map(AdapterDescription::of).collect()
}

/// The first adapter, hardware before software, whose name contains `wanted` in upper or lower case.
pub(super) async fn named(instance: &wgpu::Instance, wanted: &str) -> Result<wgpu::Adapter> {
    let mut found = all(instance).await;
    found.sort_by_key(|a| rank(&a.get_info()));
    let infos: Vec<_> = found.iter().map(wgpu::Adapter::get_info).collect();
    match position(&infos, wanted) {
        Some(i) => Ok(found.swap_remove(i)),
        None => Err(Error::NoAdapter {
            wanted: wanted.to_owned(),
            available: list(&infos),
        }),
    }
}

/// The index of the first adapter whose name contains `wanted`. `None` if `wanted` is empty.
fn position(infos: &[wgpu::AdapterInfo], wanted: &str) -> Option<usize> {
    let wanted = wanted.trim().to_lowercase();
    let mut names = infos.iter().map(|info| name(info).to_lowercase());
    names.position(|name| !wanted.is_empty() && name.contains(&wanted))
}

/// The names of adapters, for an error.
pub(super) fn list(infos: &[wgpu::AdapterInfo]) -> String {
    let names: Vec<String> = infos.iter().map(name).collect();
    match names.as_slice() {
        [] if cfg!(target_arch = "wasm32") => {
            "none (WebGPU needs a browser that supports it and a page from https or localhost)"
                .to_owned()
        }
        [] => "none (is a Vulkan, Metal or DX12 driver installed?)".to_owned(),
        _ => names.join(", "),
    }
}

/// The order of preference: discrete, integrated, virtual, unknown hardware, software.
pub(super) fn rank(info: &wgpu::AdapterInfo) -> u32 {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        _ if is_hardware(info) => 3,
        _ => 4,
    }
}

/// The device of the first adapter that opens. If none opens, the error of the first adapter, which is the best one. `None` without
/// adapters.
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

#[cfg(test)]
mod tests {
    use wgpu::Backend::{BrowserWebGpu, Vulkan};
    use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu, Other, VirtualGpu};

    use super::*;

    fn info(
        name: &str,
        backend: wgpu::Backend,
        device_type: wgpu::DeviceType,
    ) -> wgpu::AdapterInfo {
        wgpu::AdapterInfo {
            name: name.to_owned(),
            ..wgpu::AdapterInfo::new(device_type, backend)
        }
    }

    #[test]
    fn fallback_adapters_of_browsers_are_software() {
        for (backend, device_type, hardware) in [
            (BrowserWebGpu, Other, true),
            (BrowserWebGpu, DiscreteGpu, true),
            (BrowserWebGpu, Cpu, false),
            (Vulkan, DiscreteGpu, true),
            (Vulkan, IntegratedGpu, true),
            (Vulkan, VirtualGpu, true),
            (Vulkan, Cpu, false),
            (Vulkan, Other, false),
        ] {
            // The name does not matter.
            for name in ["", "SwiftShader"] {
                let info = info(name, backend, device_type);
                assert_eq!(is_hardware(&info), hardware, "{backend:?} {device_type:?}");
            }
        }
    }

    #[test]
    fn hardware_is_preferred_to_software() {
        let ranks = [
            info("", Vulkan, DiscreteGpu),
            info("", Vulkan, IntegratedGpu),
            info("", Vulkan, VirtualGpu),
            info("", BrowserWebGpu, Other),
            info("", BrowserWebGpu, Cpu),
        ]
        .map(|info| rank(&info));
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
        assert_eq!(rank(&info("", Vulkan, Other)), rank(&info("", Vulkan, Cpu)));
    }

    #[test]
    fn every_adapter_has_a_name() {
        for (reported, backend, want) in [
            ("", BrowserWebGpu, "browser WebGPU adapter"),
            (" ", BrowserWebGpu, "browser WebGPU adapter"),
            (
                "Apple M3",
                BrowserWebGpu,
                "browser WebGPU adapter: Apple M3",
            ),
            ("llvmpipe (LLVM 19)", Vulkan, "llvmpipe (LLVM 19)"),
            ("", Vulkan, "unnamed Vulkan adapter"),
        ] {
            assert_eq!(name(&info(reported, backend, Other)), want);
        }
    }

    #[test]
    fn names_match_in_part_and_in_any_case() {
        let infos = [
            info("NVIDIA H100", Vulkan, DiscreteGpu),
            info("", BrowserWebGpu, Other),
            info("llvmpipe (LLVM 19)", Vulkan, Cpu),
        ];
        for (wanted, want) in [
            ("nvidia", Some(0)),
            ("h100", Some(0)),
            ("WebGPU", Some(1)),
            ("browser", Some(1)),
            (" LLVMpipe ", Some(2)),
            ("Radeon", None),
            ("", None),
            (" ", None),
        ] {
            assert_eq!(position(&infos, wanted), want, "{wanted:?}");
        }
        assert_eq!(
            list(&infos),
            "NVIDIA H100, browser WebGPU adapter, llvmpipe (LLVM 19)"
        );
        assert!(list(&[]).starts_with("none ("));
    }
}
