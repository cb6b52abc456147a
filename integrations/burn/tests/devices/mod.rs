//! Devices under test: one for each execution path.
//!
//! GPU tests run on the adapter that `WGPU_DISTILL_ADAPTER` names (default: llvmpipe, a software adapter). They fail
//! without that adapter, unless `WGPU_DISTILL_SKIP_GPU` is set.

// Each test binary compiles this module and uses a part of it.
#![allow(dead_code)]

use std::sync::OnceLock;

use burn::tensor::wgpu::{WgpuOptions, WgpuSetup};
use burn::tensor::{Device, DeviceKind};
use burn_distill::{DistillationLoss, ExecutionPath};
use wgpu_distill::wgpu;

/// A device and the path that the loss must take on it.
#[derive(Clone)]
pub struct TestDevice {
    pub name: &'static str,
    pub device: Device,
    pub path: ExecutionPath,
    composed: bool,
}

impl TestDevice {
    pub fn loss(&self, loss: DistillationLoss) -> DistillationLoss {
        let loss = if self.composed { loss.composed() } else { loss };
        assert_eq!(loss.path(&self.device), self.path, "on {}", self.name);
        loss
    }
}

fn wanted() -> Option<String> {
    if std::env::var_os("WGPU_DISTILL_SKIP_GPU").is_some() {
        println!("skipped by WGPU_DISTILL_SKIP_GPU");
        return None;
    }
    let name = std::env::var("WGPU_DISTILL_ADAPTER").unwrap_or_else(|_| "llvmpipe".to_owned());
    Some(name.to_lowercase())
}

/// An application's wgpu device with all features and limits of its adapter.
pub fn application() -> Option<WgpuSetup> {
    application_with(|_, _| ())
}

/// An application's wgpu device with fewer features or lower limits.
pub fn application_with(
    less: impl FnOnce(&mut wgpu::Features, &mut wgpu::Limits),
) -> Option<WgpuSetup> {
    let wanted = wanted()?;
    let instance = wgpu::Instance::default();
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let adapter = adapters
        .into_iter()
        .find(|a| a.get_info().name.to_lowercase().contains(&wanted))
        .unwrap_or_else(|| {
            panic!("no adapter has `{wanted}` in its name; set WGPU_DISTILL_SKIP_GPU=1 to skip GPU tests")
        });
    let mut features = adapter.features() - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
    let mut limits = adapter.limits();
    less(&mut features, &mut limits);
    let request = adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("application"),
        required_features: features,
        required_limits: limits,
        // SAFETY: Burn requests the same features; these tests use none of their unfinished parts.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
        ..Default::default()
    });
    let (device, queue) = pollster::block_on(request).expect("a device");
    let backend = adapter.get_info().backend;
    Some(WgpuSetup {
        instance,
        adapter,
        device,
        queue,
        backend,
    })
}

/// Burn's device on an application's device, set up by `setup_burn`.
pub fn on_application<E: std::fmt::Debug>(
    setup_burn: impl FnOnce(WgpuOptions, WgpuSetup) -> Result<Device, E>,
) -> Device {
    let setup = application().expect("a benchmark needs an adapter");
    setup_burn(Device::wgpu_options(), setup).expect("a fresh setup")
}

/// A device that Burn and the loss share, the same for all tests of a binary.
pub fn shared() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    DEVICE
        .get_or_init(|| {
            let setup = application()?;
            Some(burn_distill::adopt(Device::wgpu_options(), setup).expect("a fresh setup"))
        })
        .clone()
}

/// A device that Burn has not shared.
pub fn unshared() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    DEVICE
        .get_or_init(|| {
            let setup = application()?;
            let device = Device::wgpu_options().setup(setup).init();
            Some(device.expect("a fresh setup"))
        })
        .clone()
}

/// Every device and path of this machine.
pub fn all() -> Vec<TestDevice> {
    use ExecutionPath::{Composed, Host, SharedDevice, SourceKernels};
    let flex = Some(Device::flex());
    let all = [
        ("flex", flex.clone(), Host),
        ("flex, composed", flex, Composed),
        ("shared", shared(), SharedDevice),
        ("shared, composed", shared(), Composed),
        ("source", unshared(), SourceKernels),
    ];
    let test_device = |(name, device, path): (_, Option<Device>, _)| {
        Some(TestDevice {
            name,
            device: device?,
            path,
            composed: path == Composed,
        })
    };
    all.into_iter().filter_map(test_device).collect()
}

/// The adapter under test as Burn's selector, for a device that Burn creates.
pub fn kind() -> DeviceKind {
    match wanted().as_deref() {
        Some("llvmpipe") => DeviceKind::Cpu,
        _ => DeviceKind::DefaultDevice,
    }
}
