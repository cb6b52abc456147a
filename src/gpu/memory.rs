//! Buffers of ours, and noticing when the device has no memory for them or objects to what is prepared.

#[cfg(test)]
use super::faults;
use crate::{Error, Result};

/// Room behind the data, so that the last row may be read in whole 16-byte words.
pub(super) const PADDING: u64 = 16;

/// What is being done until work is submitted, in errors.
pub(super) const PREPARING: &str = "the preparation of a run";

/// Bytes of a buffer that holds so many.
pub(super) fn padded(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(PADDING).max(PADDING)
}

/// Every buffer of this crate is made here.
pub(super) fn buffer(
    device: &wgpu::Device,
    label: &'static str,
    size: u64,
    usage: wgpu::BufferUsages,
) -> wgpu::Buffer {
    let make = |usage| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: usage.contains(wgpu::BufferUsages::MAP_WRITE),
        })
    };
    #[cfg(test)]
    if faults::no_memory_for(label) {
        return faults::unusable(device, make);
    }
    make(usage)
}

/// A storage buffer for results of `bytes` bytes.
pub(super) fn output(
    device: &wgpu::Device,
    label: &'static str,
    bytes: usize,
) -> Result<wgpu::Buffer> {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    with_memory(device, || buffer(device, label, padded(bytes), usage))
}

/// A buffer with contents, once a copy is recorded.
pub(super) struct Upload {
    pub buffer: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Upload {
    /// The contents go by a staging buffer of our own. Where wgpu makes one by itself (`mapped_at_creation`, `write_buffer`) and has no memory for it,
    /// it gives the whole device up.
    pub fn new(
        device: &wgpu::Device,
        label: &'static str,
        bytes: &[u8],
        usage: wgpu::BufferUsages,
    ) -> Result<Self> {
        let make = |usage| buffer(device, label, padded(bytes.len()), usage);
        let (buffer, staging) = with_memory(device, || {
            let to = make(usage | wgpu::BufferUsages::COPY_DST);
            let from = make(wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::MAP_WRITE);
            (to, from)
        })?;
        let mapped = staging.slice(..).get_mapped_range_mut();
        // There was memory, so what is left is a device that is gone.
        let mut view = mapped.map_err(|e| {
            Error::DeviceLost(format!("the buffer for `{label}` was not usable: {e}"))
        })?;
        view.slice(..bytes.len()).copy_from_slice(bytes);
        drop(view);
        staging.unmap();
        Ok(Self { buffer, staging })
    }

    /// From here on in the encoder the buffer has its contents.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.copy_buffer_to_buffer(&self.staging, 0, &self.buffer, 0, self.buffer.size());
    }
}

/// A buffer that holds `bytes` from its start when the encoder's later work runs.
pub(super) fn upload(
    device: &wgpu::Device,
    encoder: &mut wgpu::CommandEncoder,
    label: &'static str,
    bytes: &[u8],
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer> {
    let upload = Upload::new(device, label, bytes, usage)?;
    upload.record(encoder);
    Ok(upload.buffer)
}

/// An error of wgpu's as one of ours.
fn named(doing: &'static str, error: wgpu::Error) -> Error {
    match error {
        // Its source says for what.
        wgpu::Error::OutOfMemory { source } => Error::OutOfMemory(source.to_string()),
        other => Error::Gpu {
            doing,
            reason: other.to_string(),
        },
    }
}

/// Makes something on the device; an error if it lacked the memory. Whatever else wgpu objects to, a buffer of the caller's say, still goes to the caller's handler.
///
/// In a browser the answer would come after the call: there the lack is heard by a [`Failures`] around it, or else by the caller's handler.
pub(super) fn with_memory<T>(device: &wgpu::Device, make: impl FnOnce() -> T) -> Result<T> {
    if cfg!(target_arch = "wasm32") {
        return Ok(make());
    }
    let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    #[cfg(test)]
    let made = faults::watched(make);
    #[cfg(not(test))]
    let made = make();
    // Natively the answer is there at once.
    let heard = pollster::block_on(scope.pop()).map(|e| named(PREPARING, e));
    #[cfg(test)]
    let heard = heard.or_else(|| faults::lacked().map(Error::OutOfMemory));
    heard.map_or(Ok(made), Err)
}

/// Makes something that has nothing of the caller's in it; an error if wgpu objects to it. In a browser as [`with_memory`].
pub(super) fn unopposed<T>(
    device: &wgpu::Device,
    doing: &'static str,
    make: impl FnOnce() -> T,
) -> Result<T> {
    if cfg!(target_arch = "wasm32") {
        return Ok(make());
    }
    let failures = Failures::watch(device);
    let made = make();
    pollster::block_on(failures.check(doing))?;
    Ok(made)
}

/// Collects what the device objects to while work is prepared, instead of the caller's error callback.
pub(super) struct Failures {
    scopes: Vec<wgpu::ErrorScopeGuard>,
}

impl Failures {
    pub fn watch(device: &wgpu::Device) -> Self {
        let filters = [
            wgpu::ErrorFilter::Internal,
            wgpu::ErrorFilter::Validation,
            wgpu::ErrorFilter::OutOfMemory,
        ];
        Self {
            scopes: filters.map(|f| device.push_error_scope(f)).into(),
        }
    }

    /// Ends the watch now; the answer may come later, in a browser.
    pub fn check(self, doing: &'static str) -> impl Future<Output = Result<()>> {
        let answers: Vec<_> = self.scopes.into_iter().rev().map(|s| s.pop()).collect();
        async move {
            for answer in answers {
                if let Some(error) = answer.await {
                    return Err(named(doing, error));
                }
            }
            Ok(())
        }
    }
}
