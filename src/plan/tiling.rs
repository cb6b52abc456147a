//! Distribution of a shape's rows over invocations.

use super::limits::Limits;
use crate::shader::{MAX_VECTORS_PER_LANE, Variant};
use crate::{Error, Result};

/// The distribution of rows over invocations. [`Plan::with_tiling`](super::Plan::with_tiling) takes one chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiling {
    /// Invocations that own a row, or a segment of one; a power of two up to `workgroup_size`.
    pub lanes: u32,
    /// Invocations of a workgroup, a power of two.
    pub workgroup_size: u32,
    /// Vectors of four classes that an invocation handles at a time, 1 to 16. Those of a row's last tile stay in registers, so the
    /// last `4 * vectors_per_lane * lanes` classes are read once.
    pub vectors_per_lane: u32,
    /// The device's smallest subgroup; `None` if the kernels use no subgroup operations.
    pub subgroup_min: Option<u32>,
    /// Segments of a row, each with its own lanes. If there are several, a further dispatch merges their statistics.
    pub segments: u32,
}

impl Tiling {
    /// The tiling for a shape on a device.
    ///
    /// Short rows share a workgroup. With subgroups, a row stays within a subgroup if its lanes can hold the row in registers. Such
    /// rows need no barrier. Longer rows have a workgroup each, with enough lanes to hold the row if possible. A few long rows are
    /// cut into segments, so that a large device has work for all its cores.
    pub fn for_shape(rows: usize, classes: usize, limits: &Limits) -> Self {
        // Any number of classes has a tiling; the plan refuses those beyond its limits.
        let vectors = classes.div_ceil(4).clamp(1, 1 << 30) as u32;
        let wide = vectors.next_power_of_two();
        // The largest power of two within the limit.
        let cap = 1 << limits.workgroup_invocations.max(1).ilog2();
        // Software adapters are slow to start workgroups and at barriers, so one lane owns a short row.
        let alone = limits.software && vectors <= 256 && rows >= 64;
        // A vector of the student and one of the teacher take eight registers.
        let most = match limits.software {
            true if alone && vectors > 32 => 8,
            true => 4,
            false => (limits.registers / 8).clamp(1, MAX_VECTORS_PER_LANE),
        };
        let vectors_per_lane = |lanes: u32| vectors.div_ceil(lanes).clamp(1, most);
        let (lanes, workgroup_size, subgroup_min) = match limits.subgroup {
            Some((min, max)) => {
                // `check_workgroup` refuses subgroups of size 0.
                let min = min.max(1);
                // A workgroup must hold whole subgroups of any size that the device may choose.
                let smallest = max.max(min).min(cap);
                let packed = 128.max(smallest).min(cap);
                let (lanes, size) = if limits.software {
                    (if alone { 1 } else { wide.min(min) }, smallest)
                } else if vectors <= most.saturating_mul(min) {
                    ((wide / 4).clamp(1, min), packed)
                } else {
                    let wanted = vectors.div_ceil(most).next_power_of_two().clamp(128, 512);
                    let size = wanted.max(smallest).min(cap);
                    (size, size)
                };
                (lanes, size, Some(min))
            }
            None if limits.software => (if alone { 1 } else { wide.min(16) }, 16.min(cap), None),
            None if wide <= 128 => ((wide / 4).clamp(1, 16), 64.min(cap), None),
            None => {
                let wanted = vectors.div_ceil(most).next_power_of_two();
                let size = wanted.clamp(64, 256).min(cap);
                (size, size, None)
            }
        };
        let lanes = lanes.min(workgroup_size);
        let vectors_per_lane = vectors_per_lane(lanes);
        // `busy`: workgroups that keep a device busy. `worth`: vectors from which a segment is worth its dispatches.
        let (busy, worth) = if limits.software {
            (8, 8192)
        } else {
            (
                256,
                vectors_per_lane.saturating_mul(2).saturating_mul(lanes),
            )
        };
        let wanted = (busy / rows.max(1)).min((vectors / worth) as usize);
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

pub(super) fn check_workgroup(variant: &Variant, limits: &Limits) -> Result<()> {
    let Variant {
        lanes,
        workgroup_size: size,
        ..
    } = *variant;
    let refuse = |why| {
        Err(Error::Unsupported {
            what: format!(
                "a tiling of {lanes} lane{} per row in workgroups of {size}",
                if lanes == 1 { "" } else { "s" }
            ),
            why,
        })
    };
    if !lanes.is_power_of_two() || !size.is_power_of_two() || lanes > size {
        return refuse("both must be powers of two, and a row's lanes must fit in a workgroup");
    }
    if variant.vectors_per_lane == 0 || variant.vectors_per_lane > MAX_VECTORS_PER_LANE {
        return refuse("`vectors_per_lane` must be 1 to 16");
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
