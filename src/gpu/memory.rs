//! Internal buffers, and errors of the device while work is prepared.

#[cfg(test)]
use super::faults;
use crate::{Error, Result};

/// Buffer sizes are multiples of this, so that the last row can be read in whole 16-byte words.
pub(super) const PADDING: u64 = 16;

/// The name in errors for all work before the submission.
pub(super) const PREPARING: &str = "the preparation of a run";

/// The size of a buffer for `bytes` bytes.
pub(super) fn padded(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(PADDING).max(PADDING)
}

/// Creates a buffer. The crate creates all its buffers here.
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

/// A buffer whose contents are copied from a staging buffer by a recorded command.
pub(super) struct Upload {
    pub buffer: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Upload {
    /// A buffer for `bytes`.
    pub fn new(
        device: &wgpu::Device,
        label: &'static str,
        bytes: &[u8],
        usage: wgpu::BufferUsages,
    ) -> Result<Self> {
        Self::filled(device, label, bytes.len(), usage, |fill| fill(0, bytes))
    }

    /// A buffer of `size` bytes that `write` fills part by part, each at its offset.
    ///
    /// The contents go through a staging buffer that is created here. If wgpu creates one (`mapped_at_creation`, `write_buffer`) and has
    /// no memory for it, the whole device is lost.
    pub fn filled(
        device: &wgpu::Device,
        label: &'static str,
        size: usize,
        usage: wgpu::BufferUsages,
        write: impl FnOnce(&mut dyn FnMut(usize, &[u8])),
    ) -> Result<Self> {
        let make = |usage| buffer(device, label, padded(size), usage);
        let (buffer, staging) = with_memory(device, || {
            let to = make(usage | wgpu::BufferUsages::COPY_DST);
            let from = make(wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::MAP_WRITE);
            (to, from)
        })?;
        let mapped = staging.slice(..).get_mapped_range_mut();
        // The allocation succeeded, so the device must be lost.
        let mut view = mapped.map_err(|e| {
            Error::DeviceLost(format!("the buffer for `{label}` was not usable: {e}"))
        })?;
        write(&mut |offset, bytes| {
            let end = offset + bytes.len();
            view.slice(offset..end).copy_from_slice(bytes);
        });
        drop(view);
        staging.unmap();
        Ok(Self { buffer, staging })
    }

    /// Records the copy: later commands of the encoder see the contents.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.copy_buffer_to_buffer(&self.staging, 0, &self.buffer, 0, self.buffer.size());
    }
}

/// A buffer in which later commands of the encoder see `bytes`.
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

/// Converts wgpu's error.
fn named(doing: &'static str, error: wgpu::Error) -> Error {
    match error {
        // The source names the buffer.
        wgpu::Error::OutOfMemory { source } => Error::OutOfMemory(source.to_string()),
        other => Error::Gpu {
            doing,
            reason: other.to_string(),
        },
    }
}

/// Creates objects on the device; returns [`Error::OutOfMemory`] if it has no memory. Other errors, such as those of caller buffers, still
/// reach the device's error handler.
///
/// A browser reports errors after the call: to the enclosing [`Failures`], or else to the device's error handler.
pub(super) fn with_memory<T>(device: &wgpu::Device, make: impl FnOnce() -> T) -> Result<T> {
    if cfg!(target_arch = "wasm32") {
        return Ok(make());
    }
    let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    #[cfg(test)]
    let made = faults::watched(make);
    #[cfg(not(test))]
    let made = make();
    // On native targets the result is ready at once.
    let heard = pollster::block_on(scope.pop()).map(|e| named(PREPARING, e));
    #[cfg(test)]
    let heard = heard.or_else(|| faults::lacked().map(Error::OutOfMemory));
    heard.map_or(Ok(made), Err)
}

/// Creates an internal object; returns wgpu's error instead of raising it on the device. A browser reports errors as for
/// [`with_memory`].
pub(super) fn with_errors<T>(
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

/// Collects the device's errors while work is prepared, so that they do not reach the device's error handler.
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

    /// Stops collecting now. In a browser the result comes later.
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
