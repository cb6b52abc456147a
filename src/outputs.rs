//! Outputs of a call on slices: newly allocated, or in the caller's memory.

use half::{bf16, f16};

use crate::{Gradient, RowMetrics, RowResult, Storage};

/// Outputs that [`Engine::run`](crate::Engine::run) returns besides the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outputs {
    /// Each row's loss, KDR and TSSR.
    pub rows: bool,
    /// Each row's [`RowMetrics`], and their means in the summary. With them the last bit of other results may differ.
    pub metrics: bool,
    /// The gradient with respect to the student's logits, in this storage type.
    pub gradient: Option<Storage>,
}

impl Outputs {
    /// The summary alone.
    pub const SUMMARY: Self = Self {
        rows: false,
        metrics: false,
        gradient: None,
    };
    /// The summary and the gradient in f32.
    pub const GRADIENT: Self = Self {
        rows: false,
        metrics: false,
        gradient: Some(Storage::F32),
    };
    /// The summary, the rows and the gradient in f32; no metrics.
    pub const ALL: Self = Self {
        rows: true,
        metrics: false,
        gradient: Some(Storage::F32),
    };
}

/// Memory for numbers in one of the storage types.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// 16-bit IEEE floats.
    F16(&'a mut [f16]),
    /// 16-bit brain floats.
    Bf16(&'a mut [bf16]),
}

impl<'a> ValuesMut<'a> {
    /// The storage type.
    pub fn storage(&self) -> Storage {
        match self {
            Self::F32(_) => Storage::F32,
            Self::F16(_) => Storage::F16,
            Self::Bf16(_) => Storage::Bf16,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    /// Returns true if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Splits off the first `n` elements.
    pub(crate) fn split_at(self, n: usize) -> (Self, Self) {
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

    /// Elements `range`.
    pub(crate) fn part(&mut self, range: std::ops::Range<usize>) -> ValuesMut<'_> {
        match self {
            Self::F32(v) => ValuesMut::F32(&mut v[range]),
            Self::F16(v) => ValuesMut::F16(&mut v[range]),
            Self::Bf16(v) => ValuesMut::Bf16(&mut v[range]),
        }
    }
}

impl<'a> From<&'a mut [f32]> for ValuesMut<'a> {
    fn from(values: &'a mut [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a mut [f16]> for ValuesMut<'a> {
    fn from(values: &'a mut [f16]) -> Self {
        Self::F16(values)
    }
}

impl<'a> From<&'a mut [bf16]> for ValuesMut<'a> {
    fn from(values: &'a mut [bf16]) -> Self {
        Self::Bf16(values)
    }
}

impl<'a, T> From<&'a mut Vec<T>> for ValuesMut<'a>
where
    &'a mut [T]: Into<ValuesMut<'a>>,
{
    fn from(values: &'a mut Vec<T>) -> Self {
        values.as_mut_slice().into()
    }
}

impl<'a, T, const N: usize> From<&'a mut [T; N]> for ValuesMut<'a>
where
    &'a mut [T]: Into<ValuesMut<'a>>,
{
    fn from(values: &'a mut [T; N]) -> Self {
        values.as_mut_slice().into()
    }
}

impl<'a> From<&'a mut Gradient> for ValuesMut<'a> {
    fn from(gradient: &'a mut Gradient) -> Self {
        match gradient {
            Gradient::F32(v) => Self::F32(v),
            Gradient::F16(v) => Self::F16(v),
            Gradient::Bf16(v) => Self::Bf16(v),
        }
    }
}

/// The caller's memory for the gradient with respect to the student's logits, `[rows, classes]`. Row `r` starts at element
/// `r * row_stride`.
///
/// With [`GradWrite::Overwrite`](crate::GradWrite::Overwrite) the gradient replaces each element of a row. With
/// [`GradWrite::Accumulate`](crate::GradWrite::Accumulate) it is added in f32, and the sum is rounded once to the storage type.
/// Elements between the rows do not change.
#[derive(Debug)]
pub struct GradientMut<'a> {
    /// The elements. The length must be between `(rows - 1) * row_stride + classes` and `rows * row_stride`.
    pub values: ValuesMut<'a>,
    /// Elements per row, equal to the student's number of classes.
    pub classes: usize,
    /// Elements from the start of one row to the start of the next, at least `classes`.
    pub row_stride: usize,
}

impl<'a> GradientMut<'a> {
    /// Rows of `classes` elements without gaps.
    pub fn new(values: impl Into<ValuesMut<'a>>, classes: usize) -> Self {
        Self {
            values: values.into(),
            classes,
            row_stride: classes,
        }
    }

    /// Sets [`row_stride`](Self::row_stride), in elements.
    pub fn with_row_stride(self, row_stride: usize) -> Self {
        Self { row_stride, ..self }
    }

    /// Splits off the first `rows` rows, with the gap after them if there is one.
    pub(crate) fn split_at_row(self, rows: usize) -> (Self, Self) {
        let (classes, row_stride) = (self.classes, self.row_stride);
        let n = (rows * row_stride).min(self.values.len());
        let (first, rest) = self.values.split_at(n);
        let of = |values| Self {
            values,
            classes,
            row_stride,
        };
        (of(first), of(rest))
    }

    /// The elements of a row.
    pub(crate) fn row(&mut self, row: usize) -> ValuesMut<'_> {
        let start = row * self.row_stride;
        self.values.part(start..start + self.classes)
    }
}

/// The caller's memory for the outputs of [`Engine::run_into`](crate::Engine::run_into) besides the summary. An output that is
/// `None` is not computed.
#[derive(Debug, Default)]
pub struct OutputsMut<'a> {
    /// Each row's loss, KDR and TSSR: one entry for each row, overwritten.
    pub rows: Option<&'a mut [RowResult]>,
    /// Each row's metrics: one entry for each row, overwritten. The summary then has their means.
    pub metrics: Option<&'a mut [RowMetrics]>,
    /// The gradient with respect to the student's logits.
    pub gradient: Option<GradientMut<'a>>,
}

impl<'a> From<GradientMut<'a>> for OutputsMut<'a> {
    fn from(gradient: GradientMut<'a>) -> Self {
        Self {
            rows: None,
            metrics: None,
            gradient: Some(gradient),
        }
    }
}
