//! Results on their way back from the device, and noticing when they will not come.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::Pod;
use futures_channel::oneshot;

use super::Gpu;
#[cfg(test)]
use super::faults::{self, Fault};
use super::memory::{PADDING, buffer, with_memory};
use crate::{Error, Result};

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
        let room = to.try_reserve_exact(items);
        room.map_err(|_| Error::no_room(bytes.len()))?;
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
    ) -> Result<Self> {
        let step = |bytes: usize| (bytes as u64).next_multiple_of(PADDING);
        let total: u64 = parts.iter().map(|(_, bytes)| step(*bytes)).sum();
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let size = total.max(PADDING);
        let staging = with_memory(&gpu.device, || buffer(&gpu.device, "readback", size, usage))?;
        #[cfg(test)]
        if faults::strikes(Fault::WorkIsLost) {
            encoder = gpu.device.create_command_encoder(&Default::default());
        }
        let mut at = 0;
        for (buffer, bytes) in parts {
            if *bytes > 0 {
                let size = step(*bytes).min(buffer.size());
                encoder.copy_buffer_to_buffer(buffer, 0, &staging, at, size);
            }
            at += step(*bytes);
        }
        let submission = gpu.queue.submit([encoder.finish()]);
        Ok(Self {
            staging,
            submission,
            taken: 0,
        })
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
        let lost = |reason: String| Error::DeviceLost(reason);
        let (ending, ended) = Ending::new();
        let slice = self.staging.slice(..);
        let mapped = ending.clone();
        slice.map_async(wgpu::MapMode::Read, move |outcome| {
            mapped.tell(outcome.map_err(|e| lost(e.to_string())));
        });
        drive(gpu, self.submission, ending);
        ended.await.map_err(|e| lost(e.to_string()))??;
        let bytes = slice.get_mapped_range().map_err(|e| lost(e.to_string()))?;
        Ok(Arrived { bytes })
    }
}

/// Where the end of a wait is told, by whoever knows of it first: the map callback, or who waits for the device where no callback will be called any more.
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
            // The receiver is gone if the future was dropped; then nobody asks.
            let _ = sender.send(outcome);
        }
    }
}

/// Sees to it that callbacks of a submission are called. A browser does so by itself.
#[cfg(target_arch = "wasm32")]
fn drive(_gpu: &Gpu, _submission: wgpu::SubmissionIndex, _ending: Ending) {}

/// Sees to it that callbacks of a submission are called: native devices only work while someone polls them.
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
        // A thread, so that whoever awaits is free meanwhile.
        elsewhere(watched);
    }
}

/// Waits, and tells the end if that fails. Where a driver loses the device during the wait, wgpu 30 calls no map callback, and panics.
#[cfg(not(target_arch = "wasm32"))]
fn wait_for(
    wait: impl FnOnce() -> std::result::Result<wgpu::PollStatus, wgpu::PollError>,
    ending: &Ending,
) {
    // Nothing of ours is halfway done in there.
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait));
    let reason = match waited {
        // The map callback was called, or is being called by whoever else polls.
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(words), _) => words.clone(),
            (_, Some(words)) => (*words).to_owned(),
            _ => "waiting for it ended in a panic".to_owned(),
        },
    };
    ending.tell(Err(Error::DeviceLost(reason)));
}

/// Runs on a thread of its own, or here and now where the system has none to give.
#[cfg(not(target_arch = "wasm32"))]
fn elsewhere(work: impl FnOnce() + Send + 'static) {
    let builder = std::thread::Builder::new().name("wgpu-distill".to_owned());
    #[cfg(test)]
    let builder = match faults::strikes(Fault::NoThread) {
        // A stack that no memory holds.
        true => builder.stack_size(1 << 62),
        false => builder,
    };
    // Shared, since a thread that does not come to be takes its work with it.
    let ours = Arc::new(Mutex::new(Some(work)));
    let theirs = ours.clone();
    let take = |from: &Mutex<Option<_>>| from.lock().unwrap_or_else(PoisonError::into_inner).take();
    let spawned = builder.spawn(move || {
        if let Some(work) = take(&theirs) {
            work();
        }
    });
    if spawned.is_err()
        && let Some(work) = take(&ours)
    {
        work();
    }
}
