//! The devices under test: each way that the loss can be computed.
//!
//! GPU tests run on the adapter that `WGPU_DISTILL_ADAPTER` names (default: a software one, llvmpipe). A missing adapter
//! fails, unless `WGPU_DISTILL_SKIP_GPU` is set.

// Each test binary compiles this module for itself and uses what it needs of it.
#![allow(dead_code)]

use std::sync::OnceLock;

use burn::tensor::wgpu::{WgpuOptions, WgpuSetup};
use burn::tensor::{Device, DeviceKind};
use burn_distill::{DistillationLoss, Path};
use wgpu_distill::wgpu;

/// A device, and the path that it must take.
#[derive(Clone)]
pub struct Way {
    pub name: &'static str,
    pub device: Device,
    pub path: Path,
    composed: bool,
}

impl Way {
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

/// A wgpu device of an application of its own, with everything that its adapter has.
pub fn application() -> Option<WgpuSetup> {
    application_with(|_, _| ())
}

/// The same, with less.
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
            panic!("no adapter is named like `{wanted}`; set WGPU_DISTILL_SKIP_GPU to go without")
        });
    let mut features = adapter.features() - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
    let mut limits = adapter.limits();
    less(&mut features, &mut limits);
    let request = adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("the application's own"),
        required_features: features,
        required_limits: limits,
        // SAFETY: the features that Burn asks for too; none of their unfinished parts is used here.
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

/// A device of Burn's on the application's, made in the way that is given.
pub fn make<E: std::fmt::Debug>(
    how: impl FnOnce(WgpuOptions, WgpuSetup) -> Result<Device, E>,
) -> Device {
    let setup = application().expect("a benchmark needs an adapter");
    how(Device::wgpu_options(), setup).expect("a fresh setup")
}

/// A device that Burn and the loss share. All tests of a binary have one.
pub fn shared() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    DEVICE
        .get_or_init(|| {
            let setup = application()?;
            Some(burn_distill::adopt(Device::wgpu_options(), setup).expect("a fresh setup"))
        })
        .clone()
}

/// A device that only Burn knows.
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

/// Every way there is on this machine.
pub fn ways() -> Vec<Way> {
    let way = |name, device, path, composed| Way {
        name,
        device,
        path,
        composed,
    };
    let mut all = vec![
        way("flex", Device::flex(), Path::Host, false),
        way("flex, composed", Device::flex(), Path::Composed, true),
    ];
    if let Some(device) = shared() {
        all.push(way("shared", device.clone(), Path::SharedDevice, false));
        all.push(way("shared, composed", device, Path::Composed, true));
    }
    if let Some(device) = unshared() {
        all.push(way("source", device, Path::SourceKernels, false));
    }
    all
}

/// The selector of the adapter under test for a device that Burn makes itself.
pub fn kind() -> DeviceKind {
    match wanted().as_deref() {
        Some("llvmpipe") => DeviceKind::Cpu,
        _ => DeviceKind::DefaultDevice,
    }
}
