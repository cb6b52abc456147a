//! Limits of a device.

use crate::{Error, Result};

/// The properties of a device that plans depend on.
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
    /// Smallest and largest subgroup; `None` if subgroup operations may not be used.
    pub subgroup: Option<(u32, u32)>,
    /// 32-bit registers that an invocation may fill with logits. Registers for the arithmetic are not included.
    pub registers: u32,
    /// The same, for a row that is one tile and is read once.
    pub resident_registers: u32,
    /// True for a software adapter: barriers are slow, and a few lanes keep a core busy.
    pub software: bool,
}

impl Limits {
    /// WebGPU's default limits, on hardware without subgroup operations. Every device has at least these limits.
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
        resident_registers: 64,
        software: false,
    };

    /// Sets the registers of a vendor's devices, by its PCI number.
    ///
    /// On NVIDIA 48 leave room for 512 invocations on a core, with 64 there are 384. AMD's register files are as large. Others get fewer,
    /// because a spilled register costs more than a second read. Rows of one tile with 128 registers are the fastest on NVIDIA; AMD's compiler
    /// spills them.
    pub fn with_registers_of(self, vendor: u32) -> Self {
        const NVIDIA: u32 = 0x10de;
        const AMD: u32 = 0x1002;
        // Mesa's own number, under which it drives Apple's devices.
        const MESA: u32 = 0x10005;
        let (registers, resident_registers) = match vendor {
            NVIDIA => (48, 128),
            AMD => (48, 64),
            MESA => (24, 64),
            _ => (32, 64),
        };
        Self {
            registers,
            resident_registers,
            ..self
        }
    }

    /// Lowers the registers where the compiler of a Vulkan driver, known by its name, spills those that the vendor's own keeps: NVK spills 300
    /// of the largest tile that NVIDIA's driver runs fastest.
    pub fn with_registers_of_driver(self, driver: &str) -> Self {
        match driver {
            "NVK" => Self {
                resident_registers: 64,
                ..self
            },
            _ => self,
        }
    }

    /// Bytes of the largest binding that plans use.
    pub(super) fn largest_binding(&self) -> u64 {
        self.binding_bytes.min(MOST_BINDING)
    }

    /// Bytes of a binding that rows can use. A binding starts at a multiple of the alignment, so the first row may start up to that
    /// many bytes later.
    pub(crate) fn room(&self) -> u64 {
        let most = self.largest_binding();
        most.saturating_sub(self.offset_alignment)
            .saturating_sub(16)
    }
}

/// Upper bound on the bytes of a binding: the kernels index with 32 bits, and some backends have 31-bit sizes.
const MOST_BINDING: u64 = (1 << 31) - 4;

/// Bytes of the largest array elements that the kernels bind.
const LEAST_ALIGNMENT: u64 = 16;

/// Refuses a kernel with more storage buffers than the device allows.
pub(super) fn check_storage_buffers(needed: u64, limits: &Limits) -> Result<()> {
    let limit = u64::from(limits.storage_buffers);
    if limit < needed {
        return Err(Error::DeviceLimit {
            what: "storage buffers per kernel",
            needed,
            limit,
        });
    }
    Ok(())
}

/// Refuses limits below those of every WebGPU device.
pub(super) fn check_limits(limits: &Limits) -> Result<()> {
    check_storage_buffers(8, limits)?;
    let bytes = limits.largest_binding();
    let least = limits.offset_alignment.saturating_add(64);
    for (what, limit, needed) in [
        ("workgroups per dispatch", u64::from(limits.workgroups), 1),
        (
            "invocations per workgroup",
            u64::from(limits.workgroup_invocations),
            1,
        ),
        ("bytes per storage binding", bytes, least),
    ] {
        if limit < needed {
            return Err(Error::DeviceLimit {
                what,
                needed,
                limit,
            });
        }
    }
    if !limits.offset_alignment.is_power_of_two() || limits.offset_alignment < LEAST_ALIGNMENT {
        return Err(Error::Unsupported {
            what: format!("an offset alignment of {} bytes", limits.offset_alignment),
            why: "it must be a power of two of at least 16 bytes",
        });
    }
    Ok(())
}
