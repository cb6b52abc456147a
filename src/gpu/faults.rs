//! What goes wrong on a device once in a long while, made to go wrong: for `tests.rs`. Without tests none of it is there.

use std::cell::{Cell, RefCell};

/// What is to go wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// There is no memory for the buffer of this name, once so many of that name were made.
    NoMemory(&'static str, usize),
    /// wgpu objects while a kernel is compiled.
    NoPipeline,
    /// The driver says during the wait that the device is lost: wgpu then panics.
    WaitPanics,
    /// The wait ends with an error.
    WaitErrs,
    /// The system has no thread for us.
    NoThread,
    /// Work is submitted and never done, as on Metal where a command buffer fails.
    WorkIsLost,
}

thread_local! {
    static NEXT: Cell<Option<Fault>> = const { Cell::new(None) };
    static LACKED: Cell<Option<String>> = const { Cell::new(None) };
    static WATCHED: Cell<u32> = const { Cell::new(0) };
    static MADE: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Has one thing go wrong on this thread while `work` runs, and says whether it did.
pub(super) fn with<T>(fault: Fault, work: impl FnOnce() -> T) -> (T, bool) {
    NEXT.set(Some(fault));
    let done = work();
    (done, NEXT.take().is_none())
}

/// The names of all buffers that are made on this thread while `work` runs.
pub(super) fn buffers_of<T>(work: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
    MADE.take();
    let done = work();
    (done, MADE.take())
}

/// Whether this is to go wrong now. It does so once.
pub(super) fn strikes(fault: Fault) -> bool {
    let now = NEXT.get() == Some(fault);
    if now {
        NEXT.set(None);
    }
    now
}

/// Makes something while an error scope of ours is open.
pub(super) fn watched<T>(make: impl FnOnce() -> T) -> T {
    WATCHED.set(WATCHED.get() + 1);
    let made = make();
    WATCHED.set(WATCHED.get() - 1);
    made
}

/// Whether the device is to have no memory for this buffer.
pub(super) fn no_memory_for(label: &'static str) -> bool {
    MADE.with_borrow_mut(|made| made.push(label));
    if strikes(Fault::NoMemory(label, 0)) {
        assert!(WATCHED.get() > 0, "the application would hear of `{label}`");
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

/// A buffer as wgpu hands it out where there is no memory: of the right size, and of no use. What is said of it here is kept from everybody.
pub(super) fn unusable(
    device: &wgpu::Device,
    make: impl FnOnce(wgpu::BufferUsages) -> wgpu::Buffer,
) -> wgpu::Buffer {
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let buffer = make(wgpu::BufferUsages::empty());
    drop(scope);
    buffer
}

/// Has wgpu object to something.
pub(super) fn object(device: &wgpu::Device) {
    let _ = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("for a test"),
        size: 4,
        usage: wgpu::BufferUsages::empty(),
        mapped_at_creation: false,
    });
}

/// What there was no memory for, as an error scope would tell.
pub(super) fn lacked() -> Option<String> {
    LACKED.take()
}
