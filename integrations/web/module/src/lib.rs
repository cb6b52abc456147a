//! The module of the npm package: planner, shader texts and CPU path, without wgpu and without bindings of its own.
//!
//! The interface is that of C. The host writes a request (`request.rs` has its lines) into memory of [`allocate`], calls a function with
//! its place, and reads the answer at [`answer`], [`answer_bytes`]. A function returns 0 if it refuses the request; the answer is then
//! `{"name": .., "message": ..}`.

mod json;
mod plans;
mod request;
mod run;

use std::alloc::{Layout, alloc, dealloc};
use std::cell::RefCell;

use plans::Plans;
use request::Refusal;

/// Alignment of the host's memory, that of the largest vectors.
const ALIGNMENT: usize = 16;

#[derive(Default)]
struct State {
    plans: Plans,
    answer: Vec<u8>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Runs `work` and keeps its answer. Returns 0 if it refuses.
fn respond(work: impl FnOnce(&mut Plans) -> Result<(u32, Vec<u8>), Refusal>) -> u32 {
    STATE.with_borrow_mut(|state| {
        let (code, answer) = match work(&mut state.plans) {
            Ok(done) => done,
            Err(refusal) => (0, refusal.to_json().into_bytes()),
        };
        state.answer = answer;
        code
    })
}

/// The text of a request.
///
/// # Safety
/// `bytes` bytes at `at` are initialised and do not change during the call.
unsafe fn text<'a>(at: *const u8, bytes: usize) -> Result<&'a str, Refusal> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(at, bytes) };
    std::str::from_utf8(bytes).map_err(|_| Refusal::request("a text that is not UTF-8"))
}

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.max(1), ALIGNMENT).ok()
}

/// Memory for the host, at a multiple of 16 bytes; 0 if there is none left. Its contents are undefined.
#[unsafe(no_mangle)]
pub extern "C" fn allocate(bytes: usize) -> *mut u8 {
    match layout(bytes) {
        // SAFETY: the size is not 0.
        Some(layout) => unsafe { alloc(layout) },
        None => std::ptr::null_mut(),
    }
}

/// Gives back memory of [`allocate`].
///
/// # Safety
/// `at` came from `allocate(bytes)` and was not given back before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn release(at: *mut u8, bytes: usize) {
    if let Some(layout) = layout(bytes) {
        // SAFETY: the caller's promise; the layout is that of `allocate`.
        unsafe { dealloc(at, layout) }
    }
}

/// The place of the last answer. The next call may move it.
#[unsafe(no_mangle)]
pub extern "C" fn answer() -> *const u8 {
    STATE.with_borrow(|state| state.answer.as_ptr())
}

/// The bytes of the last answer.
#[unsafe(no_mangle)]
pub extern "C" fn answer_bytes() -> usize {
    STATE.with_borrow(|state| state.answer.len())
}

/// Plans. Returns the plan's number; the answer is its list of dispatches in JSON.
///
/// # Safety
/// `bytes` bytes at `at` are initialised.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plan(at: *const u8, bytes: usize) -> u32 {
    respond(|plans| {
        // SAFETY: the caller's promise.
        plans.add(unsafe { text(at, bytes) }?)
    })
}

/// The answer is the WGSL text of a kernel of the plan, by its index in the list of kernels.
#[unsafe(no_mangle)]
pub extern "C" fn code(plan: u32, kernel: usize) -> u32 {
    respond(|plans| Ok((1, plans.code(plan, kernel)?.into_bytes())))
}

/// The answer is the parameters of all dispatches of a plan, one after another, for the progress and the changed fields of the request.
///
/// # Safety
/// `bytes` bytes at `at` are initialised.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parameters(plan: u32, at: *const u8, bytes: usize) -> u32 {
    respond(|plans| {
        // SAFETY: the caller's promise.
        let request = unsafe { text(at, bytes) }?;
        Ok((1, plans.parameters(plan, request)?))
    })
}

/// Forgets a plan.
#[unsafe(no_mangle)]
pub extern "C" fn drop_plan(plan: u32) {
    STATE.with_borrow_mut(|state| state.plans.remove(plan));
}

/// Computes a batch on the CPU. The answer is the summary in bytes.
///
/// # Safety
/// `bytes` bytes at `at` are initialised. Each place that the request names lies in memory of [`allocate`] that is initialised, holds the
/// elements that the request says, and is not that of another operand.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn run(at: *const u8, bytes: usize) -> u32 {
    respond(|_| {
        // SAFETY: the caller's promises.
        let summary = unsafe { run::run(text(at, bytes)?) }?;
        Ok((1, summary))
    })
}

/// Checks a batch whose logits are elsewhere: configuration, shape, labels, soft labels, weights and lists.
///
/// # Safety
/// As for [`run`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn check(at: *const u8, bytes: usize) -> u32 {
    respond(|_| {
        // SAFETY: the caller's promises.
        unsafe { run::check(text(at, bytes)?) }?;
        Ok((1, Vec::new()))
    })
}
