//! Memory for new results.

use crate::{Error, Gradient, Result, Storage};

/// Zeros straight from the allocator.
pub(crate) fn zeros<T: bytemuck::Zeroable>(n: usize) -> Result<Vec<T>> {
    let memory = bytemuck::allocation::try_zeroed_slice_box(n);
    let bytes = n.saturating_mul(size_of::<T>());
    Ok(memory.map_err(|()| Error::no_room(bytes))?.into_vec())
}

/// Zeros for a gradient of `n` elements.
pub(crate) fn zero_gradient(storage: Storage, n: usize) -> Result<Gradient> {
    Ok(match storage {
        Storage::F32 => Gradient::F32(zeros(n)?),
        Storage::F16 => Gradient::F16(zeros(n)?),
        Storage::Bf16 => Gradient::Bf16(zeros(n)?),
    })
}
