//! Injects rare device faults, for `tests.rs` only.

use std::cell::{Cell, RefCell};

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// The device has no memory for the buffer of this name, after the given number of buffers of that name.
    NoMemory(&'static str, usize),
    /// The compilation of a kernel fails.
    NoPipeline,
    /// The driver loses the device during the wait: wgpu then panics.
    WaitPanics,
    /// The wait returns an error.
    WaitErrs,
    /// The system cannot start a thread.
    NoThread,
    /// Submitted work is never done, as on Metal when a command buffer fails.
    WorkIsLost,
}

thread_local! {
    static NEXT: Cell<Option<Fault>> = const { Cell::new(None) };
    static LACKED: Cell<Option<String>> = const { Cell::new(None) };
    static WATCHED: Cell<u32> = const { Cell::new(0) };
    static MADE: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Injects a fault on this thread while `work` runs; returns true if it happened.
pub(super) fn with<T>(fault: Fault, work: impl FnOnce() -> T) -> (T, bool) {
    NEXT.set(Some(fault));
    let done = work();
    (done, NEXT.take().is_none())
}

/// The names of all buffers made on this thread while `work` runs.
pub(super) fn buffers_of<T>(work: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
    MADE.take();
    let done = work();
    (done, MADE.take())
}

/// Returns true if this fault happens now. Each fault happens once.
pub(super) fn strikes(fault: Fault) -> bool {
    let now = NEXT.get() == Some(fault);
    if now {
        NEXT.set(None);
    }
    now
}

/// Runs `make` inside an error scope of this crate.
pub(super) fn watched<T>(make: impl FnOnce() -> T) -> T {
    WATCHED.set(WATCHED.get() + 1);
    let made = make();
    WATCHED.set(WATCHED.get() - 1);
    made
}

/// Returns true if the device has no memory for this buffer.
pub(super) fn no_memory_for(label: &'static str) -> bool {
    MADE.with_borrow_mut(|made| made.push(label));
    if strikes(Fault::NoMemory(label, 0)) {
        assert!(
            WATCHED.get() > 0,
            "the device's error handler would receive the error of `{label}`"
        );
        LACKED.set(Some(format!("'{label}', for a test")));
        return true;
    }
    if let Some(Fault::NoMemory(name, before)) = NEXT.get()
        && name == label
    {
        NEXT.set(Some(Fault::NoMemory(name, before - 1)));
    }
    false
}

/// An invalid buffer of the right size, as wgpu returns it if there is no memory. Its validation error is dropped.
pub(super) fn unusable(
    device: &wgpu::Device,
    make: impl FnOnce(wgpu::BufferUsages) -> wgpu::Buffer,
) -> wgpu::Buffer {
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let buffer = make(wgpu::BufferUsages::empty());
    drop(scope);
    buffer
}

/// Makes wgpu report a validation error.
pub(super) fn object(device: &wgpu::Device) {
    let _ = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("for a test"),
        size: 4,
        usage: wgpu::BufferUsages::empty(),
        mapped_at_creation: false,
    });
}

/// The buffer without memory, as an error scope would report it.
pub(super) fn lacked() -> Option<String> {
    LACKED.take()
}
