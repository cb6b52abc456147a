//! Checks that a device can run a plan that was made for another.

use super::dispatch::Dispatch;
use super::limits::{Limits, check_limits};
use super::planner::Plan;
use super::tiling::check_workgroup;

impl Plan {
    /// Returns true if a device with these limits can run the plan; `dispatches` are the plan's.
    pub(crate) fn is_supported_by(&self, limits: &Limits, dispatches: &[Dispatch]) -> bool {
        let kernel = |kernel| {
            let buffers = self.storage_buffers(kernel) <= limits.storage_buffers;
            buffers && check_workgroup(kernel, &self.variant_of(kernel), limits).is_ok()
        };
        let dispatch = |d: &Dispatch| {
            let windows = d.windows.iter();
            let mut bytes = windows.map(|(_, window)| window.bytes);
            d.workgroups <= limits.workgroups && bytes.all(|n| n <= limits.binding_bytes)
        };
        check_limits(limits).is_ok()
            && self.kernels().into_iter().all(kernel)
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
