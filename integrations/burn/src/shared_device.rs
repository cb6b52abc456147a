//! wgpu devices that Burn and this crate share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use burn::backend::DispatchDevice;
use burn::tensor::Device;
use burn::tensor::wgpu::{WgpuInitError, WgpuOptions, WgpuSetup};
use burn_cubecl::CubeDevice;
use wgpu_distill::gpu::{Gpu, Workspace};
use wgpu_distill::plan::Plan;

/// A shared device: its compiled kernels and the workspace of the last call.
pub(crate) struct SharedDevice {
    pub gpu: Gpu,
    workspace: Mutex<Option<Arc<Workspace>>>,
}

impl SharedDevice {
    /// A workspace for a plan. Reuses that of the last call if it is large enough. The queue orders the calls that share it.
    pub fn workspace(&self, plan: &Plan) -> Arc<Workspace> {
        let mut kept = self
            .workspace
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(workspace) = kept.as_ref().filter(|w| w.fits(plan)) {
            return workspace.clone();
        }
        let created = Arc::new(Workspace::new(self.gpu.device(), plan));
        *kept = Some(created.clone());
        created
    }
}

static SHARED: RwLock<Vec<(CubeDevice, Arc<SharedDevice>)>> = RwLock::new(Vec::new());

pub(crate) fn find(device: &CubeDevice) -> Option<Arc<SharedDevice>> {
    let shared = SHARED.read().unwrap_or_else(PoisonError::into_inner);
    let entry = shared.iter().find(|(known, _)| known == device)?;
    Some(entry.1.clone())
}

/// Logs, once a process, that the loss runs on a device that is not shared although another one is.
pub(crate) fn warn_beside_shared(device: &Device) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let none = SHARED
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .is_empty();
    if !none && !SAID.swap(true, Ordering::Relaxed) {
        log::warn!(
            "burn-distill: the logits are on {device:?}, which is not shared, although another device is; create the tensors on the device \
             that `burn_distill::init` or `adopt` returned, because `Device::default()` is another one"
        );
    }
}

/// Initializes Burn's wgpu device and shares it, so that the loss runs on Burn's buffers: `init(Device::wgpu_options())?`.
///
/// Call it instead of `Device::wgpu_options().init()`, before the first tensor on that device. Use the device that it
/// returns, with `.autodiff()` for training. Browsers need [`init_async`].
///
/// # Errors
/// Those of Burn's `init_with_setup`, for example if the device is already in use.
#[cfg(not(target_family = "wasm"))]
pub fn init(options: WgpuOptions) -> Result<Device, WgpuInitError> {
    let (device, setup) = options.init_with_setup()?;
    share(&device, &setup);
    Ok(device)
}

/// [`init`] for asynchronous programs and browsers.
///
/// # Errors
/// Those of Burn's `init_with_setup_async`.
pub async fn init_async(options: WgpuOptions) -> Result<Device, WgpuInitError> {
    let (device, setup) = options.init_with_setup_async().await?;
    share(&device, &setup);
    Ok(device)
}

/// Runs Burn on an application's wgpu device and shares it: `adopt(Device::wgpu_options(), setup)?`.
///
/// Request the device with the features and limits of its adapter: Burn compiles its kernels for the device's features.
///
/// # Errors
/// Those of Burn's `setup(..).init()`.
pub fn adopt(options: WgpuOptions, setup: WgpuSetup) -> Result<Device, WgpuInitError> {
    let device = options.setup(setup.clone()).init()?;
    share(&device, &setup);
    Ok(device)
}

/// Shares a device that Burn's `init_with_setup` initialized. Takes both results of that function.
///
/// # Panics
/// If `device` is not a wgpu device.
pub fn share(device: &Device, setup: &WgpuSetup) {
    let dispatch = device.clone().inner();
    let DispatchDevice::Cube(cube @ CubeDevice::Wgpu(_)) = dispatch.as_dispatch() else {
        panic!("only a wgpu device can be shared, got {device:?}");
    };
    let shared = Arc::new(SharedDevice {
        gpu: Gpu::new(&setup.device, &setup.queue),
        workspace: Mutex::new(None),
    });
    let mut all = SHARED.write().unwrap_or_else(PoisonError::into_inner);
    all.retain(|(known, _)| known != cube);
    all.push((cube.clone(), shared));
}
