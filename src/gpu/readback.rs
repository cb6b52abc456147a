//! Moving bytes to and from the device, and noticing when that fails.

use std::ops::Range;

use bytemuck::Pod;
use futures_channel::oneshot;

use super::Gpu;
use crate::{Error, Result};

/// Room behind the data, so that the last row may be read in whole 16-byte words.
const PADDING: u64 = 16;

/// A buffer that holds `bytes` from its start when the encoder's later work runs.
///
/// They go by a staging buffer of our own. Where wgpu makes one by itself (`mapped_at_creation`, `write_buffer`) and has no memory for it, it gives the whole device up.
pub(super) fn upload(
    device: &wgpu::Device,
    encoder: &mut wgpu::CommandEncoder,
    name: &'static str,
    bytes: &[u8],
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer> {
    let size = bytes.len() as u64;
    let size = size.next_multiple_of(PADDING).max(PADDING);
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(name),
        size,
        usage: usage | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(name),
        size,
        usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::MAP_WRITE,
        mapped_at_creation: true,
    });
    let mut view = staging
        .slice(..)
        .get_mapped_range_mut()
        // Memory that a living device lacks is reported through an error scope; what is left is a device that is gone.
        .map_err(|e| Error::DeviceLost(format!("no memory of `{name}` could be mapped: {e}")))?;
    view.slice(..bytes.len()).copy_from_slice(bytes);
    drop(view);
    staging.unmap();
    encoder.copy_buffer_to_buffer(&staging, 0, &buffer, 0, size);
    Ok(buffer)
}

/// A storage buffer for results of `bytes` bytes.
pub(super) fn output(device: &wgpu::Device, label: &str, bytes: usize) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: (bytes as u64).next_multiple_of(PADDING).max(PADDING),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    })
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
    pub fn check(self) -> impl Future<Output = Result<()>> {
        let answers: Vec<_> = self.scopes.into_iter().rev().map(|s| s.pop()).collect();
        async {
            for answer in answers {
                match answer.await {
                    None => {}
                    Some(wgpu::Error::OutOfMemory { source }) => {
                        return Err(Error::OutOfMemory(source.to_string()));
                    }
                    Some(other) => {
                        return Err(Error::Gpu {
                            doing: "the preparation of a run",
                            reason: other.to_string(),
                        });
                    }
                }
            }
            Ok(())
        }
    }
}

/// Results on their way back, in one buffer.
pub(super) struct Download {
    staging: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    taken: u64,
}

/// Results that have arrived.
pub(super) struct Arrived {
    bytes: wgpu::BufferView,
}

impl Arrived {
    /// The items of one part, copied to the end of `to`.
    pub fn append<T: Pod>(&self, range: &Range<usize>, to: &mut Vec<T>) -> Result<()> {
        let bytes = &self.bytes[range.clone()];
        let items = bytes.len() / size_of::<T>();
        to.try_reserve_exact(items).map_err(|_| {
            let bytes = bytes.len();
            Error::OutOfMemory(format!("the host has no {bytes} bytes for the results"))
        })?;
        let start = to.len();
        to.resize(start + items, T::zeroed());
        bytemuck::cast_slice_mut(&mut to[start..]).copy_from_slice(bytes);
        Ok(())
    }

    /// The items of one part.
    pub fn items<T: Pod>(&self, range: &Range<usize>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        self.append(range, &mut items)?;
        Ok(items)
    }
}

impl Download {
    /// Adds copies of the first bytes of each buffer to the work and submits it.
    pub fn submit(
        gpu: &Gpu,
        mut encoder: wgpu::CommandEncoder,
        parts: &[(&wgpu::Buffer, usize)],
    ) -> Self {
        let step = |bytes: usize| (bytes as u64).next_multiple_of(PADDING);
        let total: u64 = parts.iter().map(|(_, bytes)| step(*bytes)).sum();
        let staging = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size: total.max(PADDING),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut at = 0;
        for (buffer, bytes) in parts {
            if *bytes > 0 {
                let size = step(*bytes).min(buffer.size());
                encoder.copy_buffer_to_buffer(buffer, 0, &staging, at, size);
            }
            at += step(*bytes);
        }
        let submission = gpu.queue.submit([encoder.finish()]);
        Self {
            staging,
            submission,
            taken: 0,
        }
    }

    /// Where the next part's items will be.
    pub fn next<T>(&mut self, items: usize) -> Range<usize> {
        self.next_bytes(items * size_of::<T>())
    }

    /// Where the next part's bytes will be.
    pub fn next_bytes(&mut self, bytes: usize) -> Range<usize> {
        let start = self.taken as usize;
        self.taken += (bytes as u64).next_multiple_of(PADDING);
        start..start + bytes
    }

    /// Waits until everything is there.
    pub async fn wait(self, gpu: &Gpu) -> Result<Arrived> {
        let (sender, receiver) = oneshot::channel();
        let slice = self.staging.slice(..);
        slice.map_async(wgpu::MapMode::Read, move |outcome| {
            // The receiver is gone if the future was dropped; then nobody asks.
            let _ = sender.send(outcome);
        });
        drive(gpu, self.submission);
        let lost = |reason: String| Error::DeviceLost(reason);
        match receiver.await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(lost(e.to_string())),
            Err(e) => return Err(lost(e.to_string())),
        }
        let bytes = slice.get_mapped_range().map_err(|e| lost(e.to_string()))?;
        Ok(Arrived { bytes })
    }
}

/// Sees to it that callbacks of a submission are called. A browser does so by itself.
#[cfg(target_arch = "wasm32")]
fn drive(_gpu: &Gpu, _submission: wgpu::SubmissionIndex) {}

/// Sees to it that callbacks of a submission are called: native devices only work while someone polls them.
#[cfg(not(target_arch = "wasm32"))]
fn drive(gpu: &Gpu, submission: wgpu::SubmissionIndex) {
    let device = gpu.device.clone();
    // An error here also reaches the map callback.
    let wait = move || {
        let _ = device.poll(wgpu::PollType::Wait {
            submission_index: Some(submission),
            timeout: None,
        });
    };
    if gpu.may_block {
        wait();
    } else {
        // A thread, so that whoever awaits is free meanwhile.
        std::thread::spawn(wait);
    }
}
