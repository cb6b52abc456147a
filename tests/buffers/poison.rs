//! Memory that shows whether it was written. Poison is a NaN whose bits no kernel writes, so that it shows where NaN is the answer too.

use std::ops::Range;

use wgpu_distill::{GradWrite, Storage, Values};

use crate::cases::Case;
use crate::cases::inputs::{POISON, Stored};

/// So many bytes of it.
pub fn poisoned(bytes: usize) -> Vec<u8> {
    bytemuck::pod_collect_to_vec(&vec![POISON; bytes / 4])
}

/// All bytes outside `written` are as they were.
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

/// No word of an output is poison any more.
pub fn written(name: &str, bytes: &[u8]) -> Result<(), String> {
    let mut words = bytes.chunks_exact(4);
    match words.position(|word| word == POISON.to_bits().to_ne_bytes()) {
        Some(at) => Err(format!("word {at} of {name} was not written")),
        None => Ok(()),
    }
}

/// The rows of the gradient as f32, once everything around them is found as it was and no element as it was.
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
    // In place and accumulated something else than poison was there.
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
