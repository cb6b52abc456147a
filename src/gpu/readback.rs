//! Reads results back, and detects a lost device while waiting.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::Pod;
use futures_channel::oneshot;

use super::device::Gpu;
#[cfg(test)]
use super::faults::{self, Fault};
use super::memory::{PADDING, buffer, padded, with_memory};
use crate::{Error, Result};

/// Copies of results in one buffer. The copies are submitted and not yet read.
pub(super) struct Download {
    staging: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    parts: Vec<Range<usize>>,
}

/// Results in mapped memory.
pub(super) struct Arrived {
    bytes: wgpu::BufferView,
    parts: Vec<Range<usize>>,
}

impl Arrived {
    /// The bytes of one part.
    pub fn part(&self, index: usize) -> &[u8] {
        &self.bytes[self.parts[index].clone()]
    }

    /// Appends the items of one part.
    pub fn append<T: Pod>(&self, index: usize, to: &mut Vec<T>) -> Result<()> {
        let bytes = self.part(index);
        let items = bytes.len() / size_of::<T>();
        let room = to.try_reserve_exact(items);
        room.map_err(|_| Error::no_room(bytes.len()))?;
        let start = to.len();
        to.resize(start + items, T::zeroed());
        bytemuck::cast_slice_mut(&mut to[start..]).copy_from_slice(bytes);
        Ok(())
    }
}

impl Download {
    /// Copies the first bytes of each buffer after the recorded work and submits both. A part without a buffer is empty.
    pub fn submit(
        gpu: &Gpu,
        mut encoder: wgpu::CommandEncoder,
        buffers: &[(Option<&wgpu::Buffer>, usize)],
    ) -> Result<Self> {
        let mut total = 0;
        let parts = buffers.iter().map(|(_, bytes)| {
            let start = total;
            total += bytes.next_multiple_of(PADDING as usize);
            start..start + bytes
        });
        let parts: Vec<_> = parts.collect();
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let size = padded(total);
        let staging = with_memory(&gpu.device, || buffer(&gpu.device, "readback", size, usage))?;
        #[cfg(test)]
        if faults::strikes(Fault::WorkIsLost) {
            encoder = gpu.device.create_command_encoder(&Default::default());
        }
        for ((buffer, bytes), part) in buffers.iter().zip(&parts) {
            if let (Some(buffer), 1..) = (buffer, *bytes) {
                let size = padded(*bytes).min(buffer.size());
                encoder.copy_buffer_to_buffer(buffer, 0, &staging, part.start as u64, size);
            }
        }
        let submission = gpu.queue.submit([encoder.finish()]);
        Ok(Self {
            staging,
            submission,
            parts,
        })
    }

    /// Waits for the results.
    pub async fn wait(self, gpu: &Gpu) -> Result<Arrived> {
        // wgpu only says that a buffer could not be mapped.
        let lost =
            || Error::DeviceLost("it was destroyed or lost before the results arrived".to_owned());
        let (ending, ended) = Ending::new();
        let slice = self.staging.slice(..);
        let mapped = ending.clone();
        slice.map_async(wgpu::MapMode::Read, move |outcome| {
            mapped.tell(outcome.map_err(|_| lost()));
        });
        drive(gpu, self.submission, ending);
        ended.await.map_err(|_| lost())??;
        let bytes = slice.get_mapped_range().map_err(|_| lost())?;
        Ok(Arrived {
            bytes,
            parts: self.parts,
        })
    }
}

/// Reports the end of a wait once: from the map callback, or from the wait itself if no callback will be called.
#[derive(Clone)]
struct Ending(Arc<Mutex<Option<oneshot::Sender<Result<()>>>>>);

impl Ending {
    fn new() -> (Self, oneshot::Receiver<Result<()>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }

    fn tell(&self, outcome: Result<()>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Fails if the future was dropped.
            let _ = sender.send(outcome);
        }
    }
}

/// Drives the device until the callbacks of a submission have run. A browser does it itself.
#[cfg(target_arch = "wasm32")]
fn drive(_gpu: &Gpu, _submission: wgpu::SubmissionIndex, _ending: Ending) {}

/// Drives the device until the callbacks of a submission have run. Native devices progress only while polled.
#[cfg(not(target_arch = "wasm32"))]
fn drive(gpu: &Gpu, submission: wgpu::SubmissionIndex, ending: Ending) {
    #[cfg(test)]
    let fault = [Fault::WaitPanics, Fault::WaitErrs].map(faults::strikes);
    let device = gpu.device.clone();
    let wait = move || {
        #[cfg(test)]
        match fault {
            [true, _] => panic!("the driver lost the device, for a test"),
            [_, true] => return Err(wgpu::PollError::Timeout),
            _ => {}
        }
        device.poll(wgpu::PollType::Wait {
            submission_index: Some(submission),
            timeout: None,
        })
    };
    let watched = move || wait_for(wait, &ending);
    if gpu.may_block {
        watched();
    } else {
        // On a thread, so that the caller does not block.
        elsewhere(watched);
    }
}

/// Waits, and reports a failure to `ending`. If a driver loses the device during the wait, wgpu 30 calls no map callback and panics.
#[cfg(not(target_arch = "wasm32"))]
fn wait_for(
    wait: impl FnOnce() -> std::result::Result<wgpu::PollStatus, wgpu::PollError>,
    ending: &Ending,
) {
    // The closure changes no state of this crate.
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait));
    let reason = match waited {
        // The map callback has run, or runs on another thread that polls.
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(words), _) => words.clone(),
            (_, Some(words)) => (*words).to_owned(),
            _ => "the wait panicked".to_owned(),
        },
    };
    ending.tell(Err(Error::DeviceLost(reason)));
}

/// Runs `work` on a new thread, or here if the system has none.
#[cfg(not(target_arch = "wasm32"))]
fn elsewhere(work: impl FnOnce() + Send + 'static) {
    let builder = std::thread::Builder::new().name("wgpu-distill".to_owned());
    #[cfg(test)]
    let builder = match faults::strikes(Fault::NoThread) {
        // A stack larger than any memory, so that the spawn fails.
        true => builder.stack_size(1 << 62),
        false => builder,
    };
    // Shared, because a failed spawn drops its closure.
    let own = Arc::new(Mutex::new(Some(work)));
    let shared = own.clone();
    let take = |from: &Mutex<Option<_>>| from.lock().unwrap_or_else(PoisonError::into_inner).take();
    let spawned = builder.spawn(move || {
        if let Some(work) = take(&shared) {
            work();
        }
    });
    if spawned.is_err()
        && let Some(work) = take(&own)
    {
        work();
    }
}
