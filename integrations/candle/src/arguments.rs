//! Checks of a call's tensors, and their conversion to what the CPU path reads.

use candle_core::{DType, DeviceLocation, Result, Tensor, bail};
use wgpu_distill::Config;

use crate::batch::DistillationBatch;
use crate::views::in_rows;

/// The tensors of a batch, checked and converted.
pub(crate) struct Arguments {
    /// Not tracked; its rows can be read in place.
    pub student: Tensor,
    /// As `student`.
    pub teacher: Tensor,
    pub labels: Vec<i32>,
    pub teacher_ids: Option<Vec<i32>>,
    pub row_weights: Option<Vec<f32>>,
    /// `[rows, classes]` without gaps.
    pub soft_labels: Option<Vec<f32>>,
    pub class_weights: Option<Vec<f32>>,
}

impl Arguments {
    /// Returns the arguments, or an error with the first reason why the loss cannot be computed.
    pub(crate) fn of(config: &Config, batch: &DistillationBatch<'_>) -> Result<Self> {
        check_devices(batch)?;
        let classes = check_shapes(batch)?;
        let tensors = [
            ("student_logits", batch.student_logits),
            ("teacher_logits", batch.teacher_logits),
        ];
        for (name, logits) in tensors {
            if !matches!(logits.dtype(), DType::F32 | DType::F16 | DType::BF16) {
                let dtype = logits.dtype();
                bail!(
                    "`{name}` is {dtype:?}, expected F32, F16 or BF16; cast it first: `{name}.to_dtype(DType::F32)`"
                );
            }
        }
        let teacher_ids = match batch.teacher_ids {
            Some(ids) => Some(teacher_ids(ids, classes)?),
            None => None,
        };
        Ok(Self {
            student: in_rows(batch.student_logits)?,
            teacher: in_rows(batch.teacher_logits)?,
            labels: labels(batch.labels, classes, config.ignore_index)?,
            teacher_ids,
            row_weights: floats("row_weights", batch.row_weights)?,
            soft_labels: floats("soft_labels", batch.soft_labels)?,
            class_weights: floats("class_weights", batch.class_weights)?,
        })
    }
}

fn check_devices(batch: &DistillationBatch<'_>) -> Result<()> {
    let tensors = [
        ("student_logits", Some(batch.student_logits)),
        ("teacher_logits", Some(batch.teacher_logits)),
        ("labels", Some(batch.labels)),
        ("teacher_ids", batch.teacher_ids),
        ("row_weights", batch.row_weights),
        ("soft_labels", batch.soft_labels),
        ("class_weights", batch.class_weights),
    ];
    for (name, tensor) in tensors {
        if let Some(tensor) = tensor {
            check_location(name, tensor.device().location())?;
        }
    }
    Ok(())
}

fn check_location(name: &str, location: DeviceLocation) -> Result<()> {
    let device = match location {
        DeviceLocation::Cpu => return Ok(()),
        DeviceLocation::Cuda { .. } => "CUDA",
        DeviceLocation::Metal { .. } => "Metal",
    };
    bail!(
        "`{name}` is on a {device} device, and candle-distill computes on the CPU; move it first: `{name}.to_device(&Device::Cpu)`. For a loss on the GPU use burn-distill, or wgpu-distill on your buffers (`gpu::Gpu`)"
    )
}

/// Returns the student's number of classes.
fn check_shapes(batch: &DistillationBatch<'_>) -> Result<usize> {
    let student = batch.student_logits.dims();
    let teacher = batch.teacher_logits.dims();
    if student.len() < 2 {
        bail!(
            "student_logits has shape {student:?}, expected [rows, classes] or [batch, sequence, classes]"
        );
    }
    let (leading, classes) = (&student[..student.len() - 1], student[student.len() - 1]);
    if teacher.len() != student.len() || teacher[..teacher.len() - 1] != *leading {
        bail!(
            "student_logits has shape {student:?} and teacher_logits {teacher:?}; all dimensions but the last, the classes, must be equal"
        );
    }
    let beside: [(_, _, &[usize], _); 4] = [
        (
            "labels",
            Some(batch.labels),
            leading,
            "a label for each row",
        ),
        (
            "row_weights",
            batch.row_weights,
            leading,
            "a weight for each row",
        ),
        (
            "soft_labels",
            batch.soft_labels,
            student,
            "a number for each logit",
        ),
        (
            "class_weights",
            batch.class_weights,
            &[classes],
            "a weight for each class",
        ),
    ];
    for (name, tensor, expected, what) in beside {
        let dims = tensor.map_or(expected, Tensor::dims);
        if dims != expected {
            bail!(
                "{name} has shape {dims:?}, expected {expected:?}, {what}, for student_logits of shape {student:?}"
            );
        }
    }
    if let Some(ids) = batch.teacher_ids.map(Tensor::dims)
        && ids != teacher
    {
        bail!(
            "teacher_ids has shape {ids:?}, expected that of the log-probabilities in teacher_logits, {teacher:?}: a class for each of them"
        );
    }
    Ok(classes)
}

/// The numbers of a float tensor in f32, in the order of its rows.
fn floats(name: &str, tensor: Option<&Tensor>) -> Result<Option<Vec<f32>>> {
    let Some(tensor) = tensor else {
        return Ok(None);
    };
    if !tensor.dtype().is_float() {
        bail!("`{name}` is {:?}, expected floats", tensor.dtype());
    }
    let tensor = tensor.detach().to_dtype(DType::F32)?;
    tensor.flatten_all()?.to_vec1().map(Some)
}

/// The numbers of an integer tensor in the order of its rows.
fn integers(name: &str, tensor: &Tensor) -> Result<Vec<i64>> {
    match tensor.dtype() {
        DType::U8 | DType::U32 | DType::I16 | DType::I32 | DType::I64 => {
            tensor.to_dtype(DType::I64)?.flatten_all()?.to_vec1()
        }
        dtype => bail!("`{name}` is {dtype:?}, expected U8, U32, I16, I32 or I64"),
    }
}

/// The labels as the CPU path reads them. It refuses those in the range of i32 that are no class.
fn labels(tensor: &Tensor, classes: usize, ignore_index: i32) -> Result<Vec<i32>> {
    let mut labels = Vec::with_capacity(tensor.elem_count());
    for (row, label) in integers("labels", tensor)?.into_iter().enumerate() {
        match i32::try_from(label) {
            Ok(label) => labels.push(label),
            Err(_) => bail!(
                "label {label} in row {row} is neither in 0..{classes} nor the ignore_index {ignore_index}"
            ),
        }
    }
    Ok(labels)
}

/// The classes of the teacher's list, as [`labels`].
fn teacher_ids(tensor: &Tensor, classes: usize) -> Result<Vec<i32>> {
    let k = tensor.dims().last().copied().unwrap_or(1).max(1);
    let mut ids = Vec::with_capacity(tensor.elem_count());
    for (place, id) in integers("teacher_ids", tensor)?.into_iter().enumerate() {
        match i32::try_from(id) {
            Ok(id) => ids.push(id),
            Err(_) => bail!(
                "`teacher_ids` of row {} has {id}, expected a class below {classes} or -1 for an empty place",
                place / k
            ),
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use candle_core::DeviceLocation;

    use super::check_location;

    /// This build has no GPU of candle, so the check gets the location alone.
    #[test]
    fn other_devices_are_refused_with_the_remedy() {
        assert!(check_location("labels", DeviceLocation::Cpu).is_ok());
        let gpus = [
            (DeviceLocation::Cuda { gpu_id: 0 }, "CUDA"),
            (DeviceLocation::Metal { gpu_id: 1 }, "Metal"),
        ];
        for (location, name) in gpus {
            let error = check_location("teacher_logits", location).expect_err("it is refused");
            let text = error.to_string();
            let parts = [
                "`teacher_logits`",
                name,
                "to_device(&Device::Cpu)",
                "burn-distill",
            ];
            for part in parts {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
}
