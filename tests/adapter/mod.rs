//! The GPU under test.

use std::sync::OnceLock;

use wgpu_distill::gpu::Gpu;

/// The GPU under test, or none if tests on GPUs are skipped by name. All tests of a binary share it, and with it the compiled kernels.
pub fn gpu() -> Option<Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(find).clone()
}

fn find() -> Option<Gpu> {
    if std::env::var_os("WGPU_DISTILL_SKIP_GPU").is_some() {
        println!("skipped by WGPU_DISTILL_SKIP_GPU");
        return None;
    }
    let name = std::env::var("WGPU_DISTILL_ADAPTER").unwrap_or_else(|_| "llvmpipe".to_owned());
    let gpu = pollster::block_on(Gpu::named(&name));
    Some(gpu.unwrap_or_else(|e| panic!("{e}; set WGPU_DISTILL_SKIP_GPU to go without")))
}
