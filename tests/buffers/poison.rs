//! Memory that shows where it was written. Poison is a NaN with bits that no kernel writes, so that it differs from a NaN result.

use std::ops::Range;

use wgpu_distill::{GradWrite, Storage, Values};

use crate::cases::Case;
use crate::cases::compare::before;
use crate::cases::inputs::{POISON, Stored, spread};

/// Returns this many bytes of poison.
pub fn poisoned(bytes: usize) -> Vec<u8> {
    bytemuck::pod_collect_to_vec(&vec![POISON; bytes / 4])
}

/// Fails unless all bytes outside `written` are unchanged.
pub fn untouched(
    name: &str,
    got: &[u8],
    before: &[u8],
    written: &Range<usize>,
) -> Result<(), String> {
    let same = got[..written.start] == before[..written.start]
        && got[written.end..] == before[written.end..];
    if same {
        Ok(())
    } else {
        Err(format!("{name}: bytes outside the range were written"))
    }
}

/// Fails if a word of an output is still poison.
pub fn written(name: &str, bytes: &[u8]) -> Result<(), String> {
    let mut words = bytes.chunks_exact(4);
    match words.position(|word| word == POISON.to_bits().to_ne_bytes()) {
        Some(at) => Err(format!("word {at} of {name} was not written")),
        None => Ok(()),
    }
}

/// The gradient's memory before the call: poison, or known values for accumulation.
pub fn initial_gradient(case: &Case, stride: usize, offset: usize) -> Stored {
    let value = |i| match case.config.grad_write {
        GradWrite::Accumulate => before(i),
        _ => POISON,
    };
    let values: Vec<f32> = (0..case.rows * case.classes).map(value).collect();
    Stored::round(
        &spread(&values, case.classes, stride, offset),
        case.storage[2],
    )
}

/// Returns the rows of the gradient as f32.
///
/// Fails if an element is unchanged or a byte outside of the rows has changed.
pub fn gather(
    case: &Case,
    bytes: &[u8],
    before: &[u8],
    stride: usize,
    offset: usize,
) -> Result<Vec<f32>, String> {
    let storage = case.storage[2];
    let size = storage.bytes();
    let poison = Stored::round(&[POISON], storage);
    let poison = poison.values().as_bytes();
    // In place and accumulated gradients start with other values than poison.
    let was_poison = !case.in_place && case.config.grad_write == GradWrite::Overwrite;
    let mut out = Vec::with_capacity(case.rows * case.classes);
    let mut end = 0;
    for row in 0..case.rows {
        let start = (offset + row * stride) * size;
        if bytes[end..start] != before[end..start] {
            return Err(format!(
                "bytes before row {row} of the gradient were written"
            ));
        }
        end = start + case.classes * size;
        let values = &bytes[start..end];
        let unwritten = values.chunks_exact(size).position(|x| x == poison);
        if let Some(class) = unwritten.filter(|_| was_poison) {
            return Err(format!(
                "class {class} of row {row} of the gradient was not written"
            ));
        }
        match storage {
            Storage::F32 => out.extend(bytemuck::pod_collect_to_vec::<u8, f32>(values)),
            Storage::F16 => {
                let values = bytemuck::pod_collect_to_vec(values);
                out.extend((0..case.classes).map(|i| Values::F16(&values).get(i)));
            }
            Storage::Bf16 => {
                let values = bytemuck::pod_collect_to_vec(values);
                out.extend((0..case.classes).map(|i| Values::Bf16(&values).get(i)));
            }
        }
    }
    let tail = before.len().min(bytes.len());
    if bytes[end..tail] != before[end..tail] {
        return Err("bytes after the last row of the gradient were written".to_owned());
    }
    Ok(out)
}
