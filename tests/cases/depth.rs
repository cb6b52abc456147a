//! The depth of a test run.

use std::sync::OnceLock;

/// `WGPU_DISTILL_DEPTH` selects `quick`, `full` or `long`. The default is `quick`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Depth {
    /// A cover of pairs of the table for each configuration that compiles kernels, and the same random inputs every time: minutes.
    Quick,
    /// The whole table for every configuration, and all combinations of tilings: an hour and more on software drivers.
    Full,
    /// `Full` with more random inputs, other ones each time, and more calls under load: several hours.
    Long,
}

/// The selected depth.
pub fn depth() -> Depth {
    static DEPTH: OnceLock<Depth> = OnceLock::new();
    *DEPTH.get_or_init(|| match std::env::var("WGPU_DISTILL_DEPTH").as_deref() {
        Err(_) | Ok("quick") => Depth::Quick,
        Ok("full") => Depth::Full,
        Ok("long") => Depth::Long,
        Ok(other) => panic!("WGPU_DISTILL_DEPTH is `{other}`; use quick, full or long"),
    })
}

pub fn is_full() -> bool {
    depth() >= Depth::Full
}

pub fn is_long() -> bool {
    depth() == Depth::Long
}
