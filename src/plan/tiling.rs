//! Distribution of a shape's rows over invocations.

use super::limits::Limits;
use crate::shader::{Kernel, MAX_VECTORS_PER_LANE, Variant};
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

/// Lanes that keep a large GPU busy: 512 on each of 128 cores.
const BUSY_LANES: u32 = 1 << 16;

/// Segments of all rows together.
const MOST_SEGMENTS: usize = 256;

/// Vectors that a lane handles at a time. Larger tiles take so many registers that fewer rows are under way.
const TILE: u32 = 4;

/// Tiles of a row. Each merges once and stores once, so that a few tiles hide each other's latency.
const TILES: u32 = 4;

/// Lanes from which a large GPU hides the latency of rows that are one tile: each lane loads its whole part of the row at a time.
const MANY_LANES: usize = 1 << 19;

/// The fewest and the most lanes of a row that is one tile and has a workgroup.
const LEAST_RESIDENT: u32 = 128;
const MOST_RESIDENT: u32 = 512;

/// A row of more vectors has larger tiles: the last tile is read once, and caches do not hold the others until they are read again.
const LONG: u32 = 4096;

impl Tiling {
    /// The tiling for a shape on a device.
    ///
    /// Short rows share a workgroup. With subgroups, such a row stays within a subgroup and needs no barrier. Longer rows have a workgroup
    /// each. If there are many rows, each is one tile, as far as registers allow. If there are few rows, each has more lanes, and long ones
    /// are cut into segments, so that a large device has work for all its cores. The constants are measured: `benches/tilings.rs`.
    pub fn for_shape(rows: usize, classes: usize, limits: &Limits) -> Self {
        // Any number of classes has a tiling; the plan refuses those beyond its limits.
        let vectors = classes.div_ceil(4).clamp(1, 1 << 30) as u32;
        match limits.software {
            true => Self::for_software(rows, vectors, limits),
            false => Self::for_hardware(rows, classes, vectors, limits),
        }
    }

    /// The same tiling with workgroups that fit in the device's memory, `bytes` of which a tiling takes. The lanes of a row that fill a
    /// workgroup are halved with it.
    pub(super) fn within_memory(mut self, limits: &Limits, bytes: impl Fn(&Self) -> u32) -> Self {
        let smallest = limits.subgroup.map_or(1, |(min, max)| max.max(min).max(1));
        while bytes(&self) > limits.workgroup_bytes && self.workgroup_size / 2 >= smallest {
            self.workgroup_size /= 2;
            self.lanes = self.lanes.min(self.workgroup_size);
        }
        self
    }

    fn for_hardware(rows: usize, classes: usize, vectors: u32, limits: &Limits) -> Self {
        let cap = largest_workgroup(limits);
        // Lanes of short rows that may share a workgroup, and the smallest workgroup. Workgroups hold whole subgroups of any size that the
        // device may choose.
        let (most_shared, smallest) = match limits.subgroup {
            // `check_workgroup` refuses subgroups of size 0.
            Some((min, max)) => (min.max(1), max.max(min).max(1).min(cap)),
            None => (16, 1),
        };
        let most = (limits.registers / 8).clamp(1, MAX_VECTORS_PER_LANE);
        let resident = Self::one_tile(rows, vectors, most, most_shared, limits);
        let by_length = match resident {
            Some((lanes, _)) => lanes,
            None => vectors.div_ceil(TILE * TILES).next_power_of_two(),
        };
        let by_rows = BUSY_LANES as usize / rows.max(1);
        let by_rows = 1 << (by_rows.max(1) as u32).ilog2();
        let wanted = by_length.max(by_rows);
        let (lanes, workgroup_size) = if by_length <= most_shared {
            let lanes = wanted.max(16).min(most_shared);
            let lanes = lanes.min(vectors.next_power_of_two());
            // More rows, or more lanes without subgroups, need more workgroup memory than some devices have.
            let size = match limits.subgroup {
                Some(_) if lanes >= 8 => 256,
                _ => 128,
            };
            (lanes, size.max(smallest).min(cap))
        } else {
            let most = match limits.subgroup {
                _ if resident.is_some() => MOST_RESIDENT,
                Some(_) if by_rows <= 128 => 128,
                _ => 256,
            };
            let size = wanted.clamp(64, most).max(smallest).min(cap);
            (size, size)
        };
        let lanes = lanes.min(workgroup_size);
        let tile = match resident {
            Some((_, tile)) => tile,
            // Rows that may start at any element take more registers.
            None if vectors > LONG && by_rows <= 128 && classes.is_multiple_of(4) => most,
            None => most.min(TILE),
        };
        let vectors_per_lane = vectors.div_ceil(lanes).clamp(1, tile);
        let segments = if lanes == workgroup_size {
            let tiles = vectors / vectors_per_lane.saturating_mul(lanes);
            let most = (MOST_SEGMENTS / rows.max(1)) as u32;
            (by_rows / lanes).min(tiles).min(most).max(1)
        } else {
            1
        };
        Self {
            lanes,
            workgroup_size,
            vectors_per_lane,
            subgroup_min: limits.subgroup.map(|(min, _)| min.max(1)),
            segments,
        }
    }

    /// Lanes and vectors per lane of rows that are one tile, if there are so many of them that it pays. The logits are then read once.
    ///
    /// A lane takes as many vectors as the next power of two above `most`, the usual bound, and twice as many if a row had more than
    /// `most_lanes` otherwise and the device has the registers. Such a row shares a workgroup, or has so many lanes that its barriers cost little.
    fn one_tile(
        rows: usize,
        vectors: u32,
        most: u32,
        most_shared: u32,
        limits: &Limits,
    ) -> Option<(u32, u32)> {
        let most_lanes = match limits.subgroup {
            Some(_) => MOST_RESIDENT,
            None => MOST_RESIDENT / 2,
        };
        let most_lanes = most_lanes.min(largest_workgroup(limits));
        let tile = most.next_power_of_two();
        let most_resident = (limits.resident_registers / 8).clamp(tile, MAX_VECTORS_PER_LANE);
        let of = |tile: u32| (vectors.div_ceil(tile).next_power_of_two(), tile);
        let (lanes, tile) = match of(tile) {
            (lanes, _) if lanes > most_lanes => of((2 * tile).min(most_resident)),
            fits => fits,
        };
        let suits = lanes <= most_shared || (LEAST_RESIDENT..=most_lanes).contains(&lanes);
        let many = rows.saturating_mul(lanes as usize) >= MANY_LANES;
        (suits && many).then_some((lanes, tile))
    }

    /// Software adapters are slow to start workgroups and at barriers, so one lane owns a short row, and a long row has few lanes.
    fn for_software(rows: usize, vectors: u32, limits: &Limits) -> Self {
        let cap = largest_workgroup(limits);
        let alone = vectors <= 256 && rows >= 64;
        let most = if alone && vectors > 32 { 8 } else { 4 };
        let (most_lanes, workgroup_size, subgroup_min) = match limits.subgroup {
            Some((min, max)) => {
                let min = min.max(1);
                (min, max.max(min).min(cap), Some(min))
            }
            None => (16, 16.min(cap), None),
        };
        let lanes = if alone {
            1
        } else {
            vectors.next_power_of_two().min(most_lanes)
        };
        let lanes = lanes.min(workgroup_size);
        // Eight workgroups keep the cores busy. A segment of fewer vectors is not worth its dispatches.
        let wanted = (8 / rows.max(1)).min((vectors / 8192) as usize);
        let segments = if lanes == workgroup_size {
            (wanted as u32).max(1)
        } else {
            1
        };
        Self {
            lanes,
            workgroup_size,
            vectors_per_lane: vectors.div_ceil(lanes).clamp(1, most),
            subgroup_min,
            segments,
        }
    }
}

/// The largest power of two within the limit.
fn largest_workgroup(limits: &Limits) -> u32 {
    1 << limits.workgroup_invocations.max(1).ilog2()
}

/// Checks that a device can run the workgroups of a kernel.
pub(super) fn check_workgroup(kernel: Kernel, variant: &Variant, limits: &Limits) -> Result<()> {
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
    if kernel.workgroup_bytes(variant) > limits.workgroup_bytes {
        return refuse("the device has too little workgroup memory");
    }
    Ok(())
}
