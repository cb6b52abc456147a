//! What a device allows, and the workgroups that suit it.

use crate::shader::Variant;
use crate::{Error, Result};

/// What of a device concerns planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Bytes of one storage binding.
    pub binding_bytes: u64,
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
    /// Storage buffers of one kernel.
    pub storage_buffers: u32,
    /// Bytes that a binding's offset must be a multiple of.
    pub offset_alignment: u64,
    /// Invocations of a workgroup.
    pub workgroup_invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Workgroups of a dispatch in one dimension.
    pub workgroups: u32,
    /// Smallest and largest subgroup, where subgroup operations may be used.
    pub subgroup: Option<(u32, u32)>,
    /// A software adapter, where barriers are dear and a few lanes fill a core.
    pub software: bool,
}

impl Limits {
    /// WebGPU's default limits, which every device has, on hardware without subgroup operations.
    pub const DEFAULT: Self = Self {
        binding_bytes: 128 << 20,
        buffer_bytes: 256 << 20,
        storage_buffers: 8,
        offset_alignment: 256,
        workgroup_invocations: 256,
        workgroup_bytes: 16 << 10,
        workgroups: 65_535,
        subgroup: None,
        software: false,
    };
}

/// Lanes of a row and size of a workgroup.
pub(super) fn lanes_and_workgroup(classes: usize, limits: &Limits) -> (u32, u32, Option<u32>) {
    let units = classes.div_ceil(4).next_power_of_two();
    let units = u32::try_from(units).unwrap_or(u32::MAX).max(1);
    // The largest power of two within the limit.
    let cap = 1 << limits.workgroup_invocations.max(1).ilog2();
    if let Some((min, max)) = limits.subgroup {
        // A workgroup must hold whole subgroups of any size that the device may choose.
        let smallest = max.max(min).min(cap);
        if limits.software {
            return (units.min(min), smallest, Some(min));
        }
        // Up to eight units a lane, a row stays within a subgroup and needs no barrier.
        if units <= 8 * min {
            return (
                (units / 4).clamp(1, min),
                128.max(smallest).min(cap),
                Some(min),
            );
        }
        let wanted = (units / 8).next_power_of_two().clamp(128, 1024);
        let size = wanted.max(smallest).min(cap);
        return (size, size, Some(min));
    }
    if limits.software {
        let lanes = units.min(16);
        return (lanes, 16.min(cap), None);
    }
    if units <= 128 {
        return ((units / 4).clamp(1, 16), 64.min(cap), None);
    }
    let size = (units / 8).next_power_of_two().clamp(64, 256).min(cap);
    (size, size, None)
}

/// Limits that any WebGPU device has and an invented one may lack.
pub(super) fn check_limits(limits: &Limits) -> Result<()> {
    let needed = [
        (
            "storage buffers of a kernel",
            u64::from(limits.storage_buffers),
            8,
        ),
        ("workgroups of a dispatch", u64::from(limits.workgroups), 1),
        (
            "invocations of a workgroup",
            u64::from(limits.workgroup_invocations),
            1,
        ),
        (
            "a storage binding, in bytes,",
            limits.binding_bytes,
            limits.offset_alignment + 64,
        ),
    ];
    for (what, limit, needed) in needed {
        if limit < needed {
            return Err(Error::LimitExceeded {
                what,
                needed,
                limit,
            });
        }
    }
    Ok(())
}

pub(super) fn check_workgroup(variant: &Variant, limits: &Limits) -> Result<()> {
    let Variant {
        lanes,
        workgroup_size: size,
        ..
    } = *variant;
    let refuse = |why| {
        Err(Error::Unsupported {
            what: format!("{lanes} lanes a row in workgroups of {size}"),
            why,
        })
    };
    if !lanes.is_power_of_two() || !size.is_power_of_two() || lanes > size {
        return refuse("both must be powers of two, and a row's lanes must fit a workgroup");
    }
    if size > limits.workgroup_invocations {
        return refuse("the device's workgroups are smaller");
    }
    if variant.workgroup_bytes() > limits.workgroup_bytes {
        return refuse("the device has too little workgroup memory");
    }
    if let Some(min) = variant.subgroup_min {
        let Some((device_min, device_max)) = limits.subgroup else {
            return refuse("the device has no subgroup operations");
        };
        if min != device_min || size % device_max != 0 {
            return refuse("workgroups must hold whole subgroups of the device");
        }
        if lanes > min && lanes != size {
            return refuse("a row's lanes must be within a subgroup or a whole workgroup");
        }
    }
    Ok(())
}
