//! The GPU contexts under test, shared by all tests of a binary together with the compiled kernels.

use std::sync::{Mutex, OnceLock, PoisonError};

use wgpu_distill::gpu::Gpu;
use wgpu_distill::wgpu;

/// A part of the adapter's name: `WGPU_DISTILL_ADAPTER`, or Mesa's software driver by default.
pub fn name() -> String {
    std::env::var("WGPU_DISTILL_ADAPTER").unwrap_or_else(|_| "llvmpipe".to_owned())
}

/// Returns true if `WGPU_DISTILL_SKIP_GPU` skips the tests on GPUs.
pub fn is_skipped() -> bool {
    std::env::var_os("WGPU_DISTILL_SKIP_GPU").is_some()
}

/// The GPU under test, or none if tests on GPUs are skipped.
pub fn gpu() -> Option<Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    let find = || {
        if is_skipped() {
            println!("skipped by WGPU_DISTILL_SKIP_GPU");
            return None;
        }
        let gpu = pollster::block_on(Gpu::named(&name()));
        Some(gpu.unwrap_or_else(|e| panic!("{e}; set WGPU_DISTILL_SKIP_GPU to go without")))
    };
    GPU.get_or_init(find).clone()
}

/// The GPU under test without subgroup operations.
pub fn without_subgroups() -> Option<Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| gpu().map(|gpu| gpu.without_subgroups()))
        .clone()
}

/// The GPU under test with the rules of browsers.
pub fn by_browser_rules() -> Option<Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| gpu().map(|gpu| gpu.with_browser_rules()))
        .clone()
}

/// A new device with default limits and these features on the adapter under test.
pub fn with_default_limits(features: wgpu::Features) -> Option<Gpu> {
    static KNOWN: Mutex<Vec<(wgpu::Features, Gpu)>> = Mutex::new(Vec::new());
    let gpu = gpu()?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, gpu)) = known.iter().find(|(own, _)| *own == features) {
        return Some(gpu.clone());
    }
    let (device, queue) = default_device(&gpu, features);
    let gpu = Gpu::new(&device, &queue);
    known.push((features, gpu.clone()));
    Some(gpu)
}

fn default_device(gpu: &Gpu, features: wgpu::Features) -> (wgpu::Device, wgpu::Queue) {
    let name = gpu.device().adapter_info().name;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let adapter = found
        .into_iter()
        .find(|a| a.get_info().name == name)
        .expect("it was there before");
    let device = adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: features,
        ..Default::default()
    });
    pollster::block_on(device).expect("every adapter supports default limits")
}

/// The GPU under test with subgroup operations.
///
/// An adapter without them fails the test unless WGPU_DISTILL_SKIP_SUBGROUPS is set. Otherwise a driver update could silently skip these tests.
pub fn with_subgroups(what: &str) -> Option<Gpu> {
    let gpu = gpu()?;
    if gpu.limits().subgroup.is_some() {
        return Some(gpu);
    }
    let variable = "WGPU_DISTILL_SKIP_SUBGROUPS";
    assert!(
        std::env::var_os(variable).is_some(),
        "{} offers no subgroup operations; set {variable} to go without",
        gpu.describe()
    );
    super::report::left_out(what, variable);
    None
}
