//! Tests that measure or limit the memory of their process, start processes, or take long.

#[cfg(feature = "linear")]
#[path = "../allocator/mod.rs"]
mod allocator;
#[path = "../buffers/mod.rs"]
mod buffers;
#[path = "../cases/mod.rs"]
mod cases;
#[path = "../steps/mod.rs"]
mod steps;

mod fuzz;
#[cfg(feature = "linear")]
mod linear;
mod load;
mod memory;
mod out_of_memory;
mod waiting;

use std::sync::{Mutex, MutexGuard, PoisonError};

use buffers::{adapter, report};

/// Lets one test of this binary run at a time, since each measures memory that another would allocate.
///
/// Every test of this binary begins with it.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The full name of a test of this binary, for a child process that runs nothing else.
fn exact(module: &str, test: &str) -> String {
    let (_, topic) = module.split_once("::").expect("a module of this binary");
    format!("{topic}::{test}")
}
