//! What a device allows, and the workgroups that suit it.

use crate::shader::{MAX_VECTORS_PER_LANE, Variant};
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
    /// 32-bit registers that an invocation of a workgroup of 512 may fill with logits, beside those that the arithmetic needs.
    pub registers: u32,
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
        registers: 32,
        software: false,
    };

    /// Bytes that a binding has for rows: it starts at a multiple of the alignment, so up to that much is lost before the first.
    pub(crate) fn room(&self) -> u64 {
        let most = self.binding_bytes.min(MOST_BINDING);
        most.saturating_sub(self.offset_alignment)
            .saturating_sub(16)
    }
}

/// How invocations share the rows. [`Plan::with_tiling`](super::Plan::with_tiling) takes one of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiling {
    /// Invocations that own a row, or a segment of one; a power of two up to `workgroup_size`.
    pub lanes: u32,
    /// Invocations of a workgroup, a power of two.
    pub workgroup_size: u32,
    /// Units of four classes that an invocation handles at a time. The last of a row stay in its registers, so that
    /// `4 * block * lanes` classes are read once.
    pub vectors_per_lane: u32,
    /// The device's smallest subgroup, to use subgroup operations.
    pub subgroup_min: Option<u32>,
    /// Pieces of a row, each with lanes of its own. More than one: statistics are merged by a dispatch of their own.
    pub segments: u32,
}

impl Tiling {
    /// What suits a shape on a device.
    ///
    /// Short rows share a workgroup, and where there are subgroups a row stays within one as long as its lanes can keep it: no barrier
    /// is needed then. Longer rows have a workgroup each, with lanes enough to keep the row while they can. Few long rows
    /// are cut into segments, so that a large device has work for all its cores.
    pub fn for_shape(rows: usize, classes: usize, limits: &Limits) -> Self {
        // More classes than any plan takes are still a shape to lay out.
        let units = classes.div_ceil(4).clamp(1, 1 << 30) as u32;
        let wide = units.next_power_of_two();
        // The largest power of two within the limit.
        let cap = 1 << limits.workgroup_invocations.max(1).ilog2();
        // A software adapter is slow to start workgroups and to let lanes meet: a lane takes a short row alone.
        let alone = limits.software && units <= 256 && rows >= 64;
        // Each unit kept is eight registers.
        let most = match limits.software {
            true if alone && units > 32 => 8,
            true => 4,
            false => (limits.registers / 8).clamp(1, MAX_VECTORS_PER_LANE),
        };
        let vectors_per_lane = |lanes: u32| units.div_ceil(lanes).clamp(1, most);
        let (lanes, workgroup_size, subgroup_min) = match limits.subgroup {
            Some((min, max)) => {
                // An invented device may have none of any size; the check of the tiling refuses it.
                let min = min.max(1);
                // A workgroup must hold whole subgroups of any size that the device may choose.
                let smallest = max.max(min).min(cap);
                let packed = 128.max(smallest).min(cap);
                let (lanes, size) = if limits.software {
                    (if alone { 1 } else { wide.min(min) }, smallest)
                } else if units <= most.saturating_mul(min) {
                    ((wide / 4).clamp(1, min), packed)
                } else {
                    let wanted = units.div_ceil(most).next_power_of_two().clamp(128, 512);
                    let size = wanted.max(smallest).min(cap);
                    (size, size)
                };
                (lanes, size, Some(min))
            }
            None if limits.software => (if alone { 1 } else { wide.min(16) }, 16.min(cap), None),
            None if wide <= 128 => ((wide / 4).clamp(1, 16), 64.min(cap), None),
            None => {
                let wanted = units.div_ceil(most).next_power_of_two();
                let size = wanted.clamp(64, 256).min(cap);
                (size, size, None)
            }
        };
        let lanes = lanes.min(workgroup_size);
        let vectors_per_lane = vectors_per_lane(lanes);
        // Workgroups that keep a device busy, and units that a segment must have to be worth its dispatches.
        let (busy, worth) = if limits.software {
            (8, 8192)
        } else {
            (
                256,
                vectors_per_lane.saturating_mul(2).saturating_mul(lanes),
            )
        };
        let wanted = (busy / rows.max(1)).min((units / worth) as usize);
        let segments = if lanes == workgroup_size {
            (wanted as u32).max(1)
        } else {
            1
        };
        Self {
            lanes,
            workgroup_size,
            vectors_per_lane,
            subgroup_min,
            segments,
        }
    }
}

/// Bytes of a binding that are used at most: indices are 32 bits in the kernels, byte sizes 31 on some backends.
pub(super) const MOST_BINDING: u64 = (1 << 31) - 4;

/// Bytes of the largest words that the kernels bind arrays of.
const LEAST_ALIGNMENT: u64 = 16;

/// Limits that any WebGPU device has and an invented one may lack.
pub(super) fn check_limits(limits: &Limits) -> Result<()> {
    let needed = [
        (
            "the number of storage buffers that a kernel needs",
            u64::from(limits.storage_buffers),
            8,
        ),
        (
            "the number of workgroups that a dispatch needs",
            u64::from(limits.workgroups),
            1,
        ),
        (
            "the number of invocations that a workgroup needs",
            u64::from(limits.workgroup_invocations),
            1,
        ),
        (
            "the storage binding that the kernels need, in bytes,",
            limits.binding_bytes.min(MOST_BINDING),
            limits.offset_alignment.saturating_add(64),
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
    if !limits.offset_alignment.is_power_of_two() || limits.offset_alignment < LEAST_ALIGNMENT {
        return Err(Error::Unsupported {
            what: format!("bindings at multiples of {} bytes", limits.offset_alignment),
            why: "a device's alignment is a power of two, and the kernels bind words of 16 bytes",
        });
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
            what: format!("lanes: {lanes}, workgroup_size: {size}"),
            why,
        })
    };
    if !lanes.is_power_of_two() || !size.is_power_of_two() || lanes > size {
        return refuse("both must be powers of two, and a row's lanes must fit a workgroup");
    }
    if variant.vectors_per_lane == 0 || variant.vectors_per_lane > MAX_VECTORS_PER_LANE {
        return refuse("a block must have 1 to 16 units");
    }
    if size > limits.workgroup_invocations {
        return refuse("the device's workgroups are smaller");
    }
    if let Some(min) = variant.subgroup_min {
        let Some((device_min, device_max)) = limits.subgroup else {
            return refuse("the device has no subgroup operations");
        };
        let sizes = [device_min, device_max];
        if !sizes.iter().all(|n| n.is_power_of_two()) || device_min > device_max {
            return refuse("the device's subgroups have impossible sizes");
        }
        if min != device_min || size % device_max != 0 {
            return refuse("workgroups must hold whole subgroups of the device");
        }
        if lanes > min && lanes != size {
            return refuse("a row's lanes must be within a subgroup or a whole workgroup");
        }
    }
    if variant.workgroup_bytes() > limits.workgroup_bytes {
        return refuse("the device has too little workgroup memory");
    }
    Ok(())
}
