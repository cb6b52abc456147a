//! Tensors as matrices of rows, without a copy where their strides allow it.

use candle_core::{CpuStorage, Layout, Result, Tensor, bail};
use wgpu_distill::{Logits, Values};

/// The elements from the start of one row to the start of the next, if one stride leads through all leading dimensions and the classes
/// of a row are contiguous.
fn row_stride(layout: &Layout) -> Option<usize> {
    let (&classes, leading) = layout.dims().split_last()?;
    let (&class_stride, strides) = layout.stride().split_last()?;
    if classes > 1 && class_stride != 1 {
        return None;
    }
    let mut innermost = None;
    let mut expected = None;
    for (&size, &stride) in leading.iter().zip(strides).rev() {
        // A dimension of one entry takes no step.
        if size == 1 {
            continue;
        }
        if expected.is_some_and(|expected| stride != expected) {
            return None;
        }
        innermost.get_or_insert(stride);
        expected = Some(stride * size);
    }
    let row_stride = innermost.unwrap_or(classes);
    // Rows of a broadcast tensor overlap.
    (row_stride >= classes).then_some(row_stride)
}

/// The tensor itself if its rows can be read in place, else a contiguous copy. The result is not tracked.
pub(crate) fn in_rows(tensor: &Tensor) -> Result<Tensor> {
    let tensor = tensor.detach();
    match row_stride(tensor.layout()) {
        Some(_) => Ok(tensor),
        None => tensor.contiguous(),
    }
}

/// The rows of a tensor from [`in_rows`].
pub(crate) fn logits<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Logits<'a>> {
    let (Some(row_stride), Some(&classes)) = (row_stride(layout), layout.dims().last()) else {
        bail!("the rows of {layout:?} are not contiguous");
    };
    let rows: usize = layout.dims().iter().rev().skip(1).product();
    let start = layout.start_offset();
    let elements = match rows {
        0 => start..start,
        _ => start..start + (rows - 1) * row_stride + classes,
    };
    let values = match storage {
        CpuStorage::F32(v) => Values::F32(&v[elements]),
        CpuStorage::F16(v) => Values::F16(&v[elements]),
        CpuStorage::BF16(v) => Values::Bf16(&v[elements]),
        _ => bail!("logits are f32, f16 or bf16"),
    };
    Ok(Logits {
        values,
        classes,
        row_stride,
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Tensor};

    use super::row_stride;

    fn zeros(shape: &[usize]) -> Result<Tensor> {
        Tensor::zeros(shape, DType::F32, &Device::Cpu)
    }

    #[test]
    fn views_with_one_stride_are_read_in_place() -> Result<()> {
        let stride = |tensor: &Tensor| row_stride(tensor.layout());
        let logits = zeros(&[4, 6, 10])?;
        assert_eq!(stride(&logits), Some(10));
        assert_eq!(stride(&logits.narrow(2, 3, 5)?), Some(10));
        assert_eq!(stride(&logits.narrow(1, 2, 1)?), Some(60));
        assert_eq!(stride(&logits.narrow(0, 1, 2)?), Some(10));
        assert_eq!(stride(&logits.get(1)?.narrow(0, 2, 3)?), Some(10));
        assert_eq!(stride(&zeros(&[7, 1])?.t()?.t()?), Some(1));
        assert_eq!(stride(&zeros(&[1, 5])?), Some(5));
        // The sequences leave gaps, the batch is the inner dimension, the classes have a stride, the rows overlap.
        assert_eq!(stride(&logits.narrow(1, 0, 5)?), None);
        assert_eq!(stride(&logits.transpose(0, 1)?), None);
        assert_eq!(stride(&logits.transpose(1, 2)?), None);
        assert_eq!(stride(&zeros(&[1, 5])?.broadcast_as((3, 5))?), None);
        Ok(())
    }
}
