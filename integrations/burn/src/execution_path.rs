//! Execution paths of the loss.

use std::fmt;

use burn::backend::DispatchDevice;
use burn::tensor::Device;
use burn_cubecl::CubeDevice;

use crate::shared_device;

/// The implementation that computes the loss on a device.
///
/// The device alone determines the path, before anything runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExecutionPath {
    /// The pipelines of wgpu-distill run on Burn's buffers: a wgpu device shared by
    /// [`init`](crate::init), [`adopt`](crate::adopt) or [`share`](crate::share).
    SharedDevice,
    /// Burn's runtime compiles and launches the same shaders: a wgpu device that is not shared and whose runtime compiles WGSL.
    SourceKernels,
    /// The CPU kernels run on Burn's memory: the flex backend.
    Host,
    /// Burn's own operations, one after the other: every other backend. Slower, with more memory.
    Composed,
}

impl ExecutionPath {
    /// The path that the loss takes on a device.
    pub fn of(device: &Device) -> Self {
        of_dispatch(device.as_dispatch())
    }
}

impl fmt::Display for ExecutionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SharedDevice => "kernels on a shared device",
            Self::SourceKernels => "kernels launched by Burn",
            Self::Host => "CPU kernels",
            Self::Composed => "composed operations",
        })
    }
}

/// The path on a wgpu device if it were not shared.
pub(crate) fn launched_by_burn(device: &Device) -> ExecutionPath {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Cube(device) => launched_on(device),
        _ => ExecutionPath::Composed,
    }
}

fn launched_on(device: &CubeDevice) -> ExecutionPath {
    match !cfg!(target_family = "wasm") && device.client().name() == "wgpu<wgsl>" {
        true => ExecutionPath::SourceKernels,
        false => ExecutionPath::Composed,
    }
}

fn of_dispatch(device: &DispatchDevice) -> ExecutionPath {
    match device {
        DispatchDevice::Autodiff(device) => of_dispatch(&device.clone().inner()),
        DispatchDevice::Flex(_) => ExecutionPath::Host,
        DispatchDevice::Cube(device) => match shared_device::find(device) {
            Some(_) => ExecutionPath::SharedDevice,
            None => launched_on(device),
        },
        #[allow(unreachable_patterns, reason = "other backends are features of burn")]
        _ => ExecutionPath::Composed,
    }
}
