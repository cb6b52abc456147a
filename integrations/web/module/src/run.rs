//! The CPU path on memory of the host.

use std::slice::{from_raw_parts, from_raw_parts_mut};

use wgpu_distill::bytemuck::{self, Pod};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::half::{bf16, f16};
use wgpu_distill::plan::Operand;
use wgpu_distill::{
    Batch, Config, GradientMut, Logits, OutputsMut, RowMetrics, RowResult, Storage, Values,
    ValuesMut,
};

use crate::request::{Place, Refusal, Request};

/// Computes the batch of a request. Returns the bytes of the summary; rows, metrics and gradient are in the request's memory.
///
/// # Safety
/// Each place of the request holds its elements, initialised, at a multiple of 16 bytes, and no output shares memory with another place.
pub unsafe fn run(text: &str) -> Result<Vec<u8>, Refusal> {
    let request = Request::read(text, Config::default())?;
    let place = |operand| request.place(operand);
    let logits = |operand: Operand, classes| match place(operand) {
        // SAFETY: the caller's promise, here and below.
        Some(p) => unsafe { logits(p, classes) },
        None => Err(Refusal::request(&format!("no {}", operand.name()))),
    };
    let batch = Batch {
        student_logits: logits(Operand::StudentLogits, request.classes)?,
        teacher_logits: logits(Operand::TeacherLogits, request.teacher_classes)?,
        // SAFETY: as above.
        ..unsafe { beside_logits(&request) }?
    };
    let gradient = match place(Operand::Gradient) {
        // SAFETY: as above.
        Some(p) => Some(unsafe { gradient(p, request.classes) }?),
        None => None,
    };
    let outputs = OutputsMut {
        // SAFETY: as above.
        rows: place(Operand::RowResults).map(|p| unsafe { slice_mut::<RowResult>(p) }),
        // SAFETY: as above.
        metrics: place(Operand::RowMetrics).map(|p| unsafe { slice_mut::<RowMetrics>(p) }),
        gradient,
    };
    let summary = Cpu::new().run_into(&request.config, request.progress, &batch, outputs)?;
    Ok(bytemuck::bytes_of(&summary).to_vec())
}

/// Checks everything but logits.
///
/// # Safety
/// As for [`run`].
pub unsafe fn check(text: &str) -> Result<(), Refusal> {
    let request = Request::read(text, Config::default())?;
    // SAFETY: the caller's promise.
    let batch = unsafe { beside_logits(&request) }?;
    Ok(batch.check_rows(&request.config)?)
}

/// The batch of a request without logits.
///
/// # Safety
/// As for [`run`].
unsafe fn beside_logits<'a>(request: &Request) -> Result<Batch<'a>, Refusal> {
    let place = |operand| request.place(operand);
    let labels = place(Operand::Labels).ok_or_else(|| Refusal::request("no labels"))?;
    let none = |classes| Logits::new(&[] as &[f32], classes);
    // SAFETY: the caller's promise, here and below.
    let soft_labels = place(Operand::SoftLabels).map(|p| unsafe { logits(p, request.classes) });
    Ok(Batch {
        student_logits: none(request.classes),
        teacher_logits: none(request.teacher_classes),
        // SAFETY: as above.
        teacher_ids: place(Operand::TeacherIds).map(|p| unsafe { slice(p) }),
        // SAFETY: as above.
        labels: unsafe { slice(labels) },
        soft_labels: soft_labels.transpose()?,
        // SAFETY: as above.
        row_weights: place(Operand::RowWeights).map(|p| unsafe { slice(p) }),
        // SAFETY: as above.
        class_weights: place(Operand::ClassWeights).map(|p| unsafe { slice(p) }),
    })
}

/// # Safety
/// The place holds its elements.
unsafe fn slice<'a, T: Pod>(place: &Place) -> &'a [T] {
    let [at, elements, _] = place.numbers;
    // SAFETY: the caller's promise.
    unsafe { from_raw_parts(at as usize as *const T, elements as usize) }
}

/// # Safety
/// The place holds its elements, and nothing else uses them.
unsafe fn slice_mut<'a, T: Pod>(place: &Place) -> &'a mut [T] {
    let [at, elements, _] = place.numbers;
    // SAFETY: the caller's promise.
    unsafe { from_raw_parts_mut(at as usize as *mut T, elements as usize) }
}

fn storage_and_stride(place: &Place) -> Result<(Storage, usize), Refusal> {
    place
        .matrix
        .ok_or_else(|| Refusal::request(&format!("{} is a matrix", place.operand.name())))
}

/// # Safety
/// As for [`slice`].
unsafe fn logits<'a>(place: &Place, classes: usize) -> Result<Logits<'a>, Refusal> {
    let (storage, row_stride) = storage_and_stride(place)?;
    // SAFETY: the caller's promise.
    let values = unsafe {
        match storage {
            Storage::F32 => Values::F32(slice(place)),
            Storage::F16 => Values::F16(slice::<f16>(place)),
            Storage::Bf16 => Values::Bf16(slice::<bf16>(place)),
        }
    };
    Ok(Logits {
        values,
        classes,
        row_stride,
    })
}

/// # Safety
/// As for [`slice_mut`].
unsafe fn gradient<'a>(place: &Place, classes: usize) -> Result<GradientMut<'a>, Refusal> {
    let (storage, row_stride) = storage_and_stride(place)?;
    // SAFETY: the caller's promise.
    let values = unsafe {
        match storage {
            Storage::F32 => ValuesMut::F32(slice_mut(place)),
            Storage::F16 => ValuesMut::F16(slice_mut::<f16>(place)),
            Storage::Bf16 => ValuesMut::Bf16(slice_mut::<bf16>(place)),
        }
    };
    Ok(GradientMut {
        values,
        classes,
        row_stride,
    })
}
