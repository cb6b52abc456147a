//! The device to train on.

use std::error::Error;

use burn::tensor::{Device, DeviceKind};
use clap::ValueEnum;
use wgpu_distill::gpu::adapters_blocking;

/// The device to train on.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum On {
    /// A hardware GPU if there is one, else the CPU.
    Auto,
    /// A hardware GPU.
    Gpu,
    /// A software GPU such as llvmpipe.
    Software,
    /// Burn's flex backend.
    Cpu,
}

/// The device to train on. `burn_distill::init` shares a GPU with the loss, so that the kernels run on Burn's buffers.
pub fn device(on: On) -> Result<Device, Box<dyn Error>> {
    let hardware = || adapters_blocking().iter().any(|a| a.hardware);
    let kind = match on {
        On::Cpu => return Ok(Device::flex()),
        On::Auto if !hardware() => return Ok(Device::flex()),
        On::Auto | On::Gpu => DeviceKind::DefaultDevice,
        On::Software => DeviceKind::Cpu,
    };
    Ok(burn_distill::init(
        Device::wgpu_options().device_kind(kind),
    )?)
}
