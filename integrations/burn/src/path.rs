//! Which way the loss is computed on a device.

use std::fmt;

use burn::backend::DispatchDevice;
use burn::tensor::Device;

use crate::share;

/// How the loss is computed. It follows from the device alone, is decided before anything runs, and never changes silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Our pipelines run on Burn's own buffers: a wgpu device that was shared by [`init`](crate::init), [`adopt`](crate::adopt) or [`share`](crate::share).
    SharedDevice,
    /// The same shaders, handed to Burn's runtime as source: a wgpu device that was not shared and whose runtime speaks WGSL.
    SourceKernels,
    /// The kernels' twins on the CPU, on Burn's own memory: the flex backend.
    Host,
    /// Burn's own operations, one after the other: every other backend. Correct, but neither as fast nor as sparing.
    Composed,
}

impl Path {
    /// The path that the loss takes on a device.
    pub fn of(device: &Device) -> Self {
        of_dispatch(device.as_dispatch())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SharedDevice => "kernels on a shared device",
            Self::SourceKernels => "kernels as source",
            Self::Host => "CPU kernels",
            Self::Composed => "composed operations",
        })
    }
}

fn of_dispatch(device: &DispatchDevice) -> Path {
    match device {
        DispatchDevice::Autodiff(device) => of_dispatch(&device.clone().inner()),
        DispatchDevice::Flex(_) => Path::Host,
        DispatchDevice::Cube(device) => {
            if share::find(device).is_some() {
                Path::SharedDevice
            } else if !cfg!(target_family = "wasm") && device.client().name() == "wgpu<wgsl>" {
                Path::SourceKernels
            } else {
                Path::Composed
            }
        }
        #[allow(unreachable_patterns, reason = "other backends are features of burn")]
        _ => Path::Composed,
    }
}
