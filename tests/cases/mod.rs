//! The table of cases, its parts for a depth, and the comparison with the reference. A failure names the case.
//!
//! The CPU path runs the whole table. Each configuration of a GPU runs [`for_drivers`].
//!
//! Cases that an interface does not support, such as a gradient in place on slices, are counted in its report.

// Each test binary compiles this module and uses a part of it.
#![allow(dead_code, unused_imports)]

mod case;
pub mod compare;
mod cover;
mod depth;
pub mod inputs;
mod lists;
mod losses;
mod masks;
mod rows;
mod soft_labels;
mod table;
pub mod tolerance;
mod top_k;

pub use case::{Case, Host, Ignores, SoftLabels, TeacherList, Weights};
pub use cover::{Pair, choices, cover, cover_of, pairs};
pub use depth::{Depth, depth, is_full, is_long};
pub use table::{all, of_rows};
pub use tolerance::Tolerance;

use std::sync::OnceLock;

/// The cases for a driver that compiles kernels: a cover of pairs, or the whole table at full depth.
pub fn for_drivers() -> Vec<Case> {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    let cases = || if is_full() { all() } else { cover() };
    CASES.get_or_init(cases).clone()
}

/// Every `step`th case of the cover from the one at `from` on, or the whole table at full depth.
///
/// Each way through the kernels takes other cases, so that a quick run has most of the cover.
pub fn share(from: usize, step: usize) -> Vec<Case> {
    let (from, step) = if is_full() { (0, 1) } else { (from, step) };
    for_drivers().into_iter().skip(from).step_by(step).collect()
}

/// Describes the part of the table that a list of cases is.
pub fn extent(cases: &[Case]) -> String {
    let whole = all().len();
    match cases.len() {
        n if n == whole => format!("all {whole}"),
        n if n == for_drivers().len() => format!("cover of pairs: {n} of {whole} cases"),
        n => format!("part of the cover of pairs: {n} of {whole} cases"),
    }
}
