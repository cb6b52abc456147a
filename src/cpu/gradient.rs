//! Memory that receives gradients.

use super::row::RowMut;
use crate::{Error, Gradient, Result, Storage};

/// Memory of the caller that receives a gradient, `[rows, classes]`.
#[derive(Debug)]
pub enum GradientMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// 16-bit IEEE floats.
    F16(&'a mut [half::f16]),
    /// 16-bit brain floats.
    Bf16(&'a mut [half::bf16]),
}

impl<'a> GradientMut<'a> {
    pub(crate) fn of(gradient: &'a mut Gradient) -> Self {
        match gradient {
            Gradient::F32(v) => Self::F32(v),
            Gradient::F16(v) => Self::F16(v),
            Gradient::Bf16(v) => Self::Bf16(v),
        }
    }

    /// How it is stored.
    pub fn storage(&self) -> Storage {
        match self {
            Self::F32(_) => Storage::F32,
            Self::F16(_) => Storage::F16,
            Self::Bf16(_) => Storage::Bf16,
        }
    }

    /// Elements it holds.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    /// True if it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cuts off the first `n` elements.
    pub(super) fn take(self, n: usize) -> (Self, Self) {
        match self {
            Self::F32(v) => {
                let (a, b) = v.split_at_mut(n);
                (Self::F32(a), Self::F32(b))
            }
            Self::F16(v) => {
                let (a, b) = v.split_at_mut(n);
                (Self::F16(a), Self::F16(b))
            }
            Self::Bf16(v) => {
                let (a, b) = v.split_at_mut(n);
                (Self::Bf16(a), Self::Bf16(b))
            }
        }
    }

    pub(super) fn row(&mut self, row: usize, classes: usize) -> RowMut<'_> {
        let range = row * classes..(row + 1) * classes;
        match self {
            Self::F32(v) => RowMut::F32(&mut v[range]),
            Self::F16(v) => RowMut::F16(&mut v[range]),
            Self::Bf16(v) => RowMut::Bf16(&mut v[range]),
        }
    }
}

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
