//! Two devices of one machine.

use std::error::Error;

use burn::tensor::Device;
use burn::tensor::wgpu::WgpuSetup;
use clap::ValueEnum;
use wgpu_distill::wgpu;

/// The two devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// Two hardware GPUs, or one twice; the CPU twice if there is none.
    Auto,
    /// Two hardware GPUs, or one twice.
    Gpu,
    /// A software GPU such as llvmpipe, twice.
    Software,
    /// Burn's flex backend, twice.
    Cpu,
}

/// A device of an adapter, apart from all others.
fn device(instance: &wgpu::Instance, adapter: &wgpu::Adapter) -> Result<Device, Box<dyn Error>> {
    let request = adapter.request_device(&wgpu::DeviceDescriptor {
        // Burn compiles its kernels for the features of the device.
        required_features: adapter.features() - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS,
        required_limits: adapter.limits(),
        // SAFETY: the features are those that Burn itself requests.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
        ..Default::default()
    });
    let (device, queue) = pollster::block_on(request)?;
    let setup = WgpuSetup {
        instance: instance.clone(),
        backend: adapter.get_info().backend,
        adapter: adapter.clone(),
        device,
        queue,
    };
    Ok(burn_distill::adopt(Device::wgpu_options(), setup)?)
}

/// Two devices: of two adapters if there are two of the kind, else of the same.
pub fn devices(on: On) -> Result<[Device; 2], Box<dyn Error>> {
    let instance = wgpu::Instance::default();
    let wanted = match on {
        On::Cpu => return Ok([Device::flex(), Device::flex()]),
        On::Software => [wgpu::DeviceType::Cpu; 2],
        On::Auto | On::Gpu => [
            wgpu::DeviceType::DiscreteGpu,
            wgpu::DeviceType::IntegratedGpu,
        ],
    };
    let all = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let of_kind = |kind| all.iter().filter(move |a| a.get_info().device_type == kind);
    let found: Vec<_> = wanted.into_iter().flat_map(of_kind).collect();
    match (found.as_slice(), on) {
        ([], On::Auto) => Ok([Device::flex(), Device::flex()]),
        ([], _) => Err("no adapter of this kind was found".into()),
        ([first, ..], _) => {
            // The same card may appear once for each API.
            let backend = first.get_info().backend;
            let second = found
                .iter()
                .skip(1)
                .find(|a| a.get_info().backend == backend);
            Ok([
                device(&instance, first)?,
                device(&instance, second.unwrap_or(first))?,
            ])
        }
    }
}
