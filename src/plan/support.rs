//! Checks that a device can run a plan that was made for another.

use super::dispatch::Dispatch;
use super::limits::{Limits, check_limits};
use super::planner::Plan;
use super::tiling::check_workgroup;

impl Plan {
    /// Returns true if a device with these limits can run the plan; `dispatches` are the plan's.
    pub(crate) fn is_supported_by(&self, limits: &Limits, dispatches: &[Dispatch]) -> bool {
        let mut workgroups = self.kernels().into_iter().map(|k| self.variant_of(k));
        let dispatch = |d: &Dispatch| {
            let windows = d.windows.iter();
            let mut bytes = windows.map(|(_, window)| window.bytes);
            d.workgroups <= limits.workgroups && bytes.all(|n| n <= limits.binding_bytes)
        };
        let mut buffers = self.kernels().into_iter().map(|k| self.storage_buffers(k));
        check_limits(limits).is_ok()
            && buffers.all(|n| n <= limits.storage_buffers)
            && workgroups.all(|v| check_workgroup(&v, limits).is_ok())
            && self
                .offset_alignment
                .is_multiple_of(limits.offset_alignment)
            && self
                .workspace()
                .iter()
                .all(|(_, bytes)| *bytes <= limits.buffer_bytes)
            && dispatches.iter().all(dispatch)
    }
}
