//! Whether a plan that was made elsewhere can be followed on a device.

use super::limits::{Limits, check_limits, check_workgroup};
use super::{Dispatch, Plan};

impl Plan {
    /// Whether a device with these limits runs the plan, whose dispatches these are. The device for which it was made does.
    pub(crate) fn suits(&self, limits: &Limits, dispatches: &[Dispatch]) -> bool {
        let workgroups = [&self.variant, &self.row_variant];
        let dispatch = |d: &Dispatch| {
            let windows = d.windows.iter();
            let mut bytes = windows.map(|(_, window)| window.bytes);
            d.workgroups <= limits.workgroups && bytes.all(|n| n <= limits.binding_bytes)
        };
        check_limits(limits).is_ok()
            && workgroups
                .iter()
                .all(|v| check_workgroup(v, limits).is_ok())
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
