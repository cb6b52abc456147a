//! Devices that Burn and this crate share.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use burn::backend::DispatchDevice;
use burn::tensor::Device;
use burn::tensor::wgpu::{WgpuInitError, WgpuOptions, WgpuSetup};
use burn_cubecl::CubeDevice;
use wgpu_distill::gpu::{Gpu, Workspace};
use wgpu_distill::plan::Plan;

/// A shared device: its compiled kernels, and the temporary buffers of the last call.
pub(crate) struct Shared {
    pub gpu: Gpu,
    workspace: Mutex<Option<Arc<Workspace>>>,
}

impl Shared {
    /// A workspace that fits a plan: the last one if it does. Calls that share one run one after the other on the queue.
    pub fn workspace(&self, plan: &Plan) -> Arc<Workspace> {
        let mut kept = self
            .workspace
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(workspace) = kept.as_ref().filter(|w| w.fits(plan)) {
            return workspace.clone();
        }
        let made = Arc::new(Workspace::new(self.gpu.device(), plan));
        *kept = Some(made.clone());
        made
    }
}

static SHARED: RwLock<Vec<(CubeDevice, Arc<Shared>)>> = RwLock::new(Vec::new());

pub(crate) fn find(device: &CubeDevice) -> Option<Arc<Shared>> {
    let shared = SHARED.read().unwrap_or_else(PoisonError::into_inner);
    let entry = shared.iter().find(|(known, _)| known == device)?;
    Some(entry.1.clone())
}

/// Initializes Burn's wgpu device and shares it, so that the loss runs on Burn's own buffers: `init(Device::wgpu_options())?`.
///
/// Call it instead of `Device::wgpu_options().init()`, before the first tensor on that device, and use the device it returns
/// (add `.autodiff()` for training). In a browser: [`init_async`].
///
/// # Errors
/// Those of Burn's `init_with_setup`, among them that the device was already in use.
#[cfg(not(target_family = "wasm"))]
pub fn init(options: WgpuOptions) -> Result<Device, WgpuInitError> {
    let (device, setup) = options.init_with_setup()?;
    share(&device, &setup);
    Ok(device)
}

/// The same as [`init`] for asynchronous programs and browsers.
///
/// # Errors
/// Those of Burn's `init_with_setup_async`.
pub async fn init_async(options: WgpuOptions) -> Result<Device, WgpuInitError> {
    let (device, setup) = options.init_with_setup_async().await?;
    share(&device, &setup);
    Ok(device)
}

/// Lets Burn run on the wgpu device of an existing application, and shares it: `adopt(Device::wgpu_options(), setup)?`.
///
/// The device should have been requested with its adapter's features and limits; Burn compiles its kernels for what it finds.
///
/// # Errors
/// Those of Burn's `setup(..).init()`.
pub fn adopt(options: WgpuOptions, setup: WgpuSetup) -> Result<Device, WgpuInitError> {
    let device = options.setup(setup.clone()).init()?;
    share(&device, &setup);
    Ok(device)
}

/// Shares a device that was initialized with Burn's own `init_with_setup`, given both of its results.
///
/// # Panics
/// If `device` is not a wgpu device.
pub fn share(device: &Device, setup: &WgpuSetup) {
    let dispatch = device.clone().inner();
    let DispatchDevice::Cube(cube @ CubeDevice::Wgpu(_)) = dispatch.as_dispatch() else {
        panic!("only a wgpu device can be shared, got {device:?}");
    };
    let shared = Arc::new(Shared {
        gpu: Gpu::new(&setup.device, &setup.queue),
        workspace: Mutex::new(None),
    });
    let mut all = SHARED.write().unwrap_or_else(PoisonError::into_inner);
    all.retain(|(known, _)| known != cube);
    all.push((cube.clone(), shared));
}
