//! Checks of a call's tensors before anything is queued.

use burn::tensor::{DType, Device, Tensor};
use wgpu_distill::Reduction;

use super::batch::{LinearDistillationBatch, LinearLogits, LinearTeacher};
use crate::arguments::{self, Beside};
use crate::denominator::Denominator;
use crate::error::{Error, Result};
use crate::loss_call::LossCall;
use crate::matrix::storage;

/// Names of hidden states, weights and bias in errors.
type Names = [&'static str; 3];

const STUDENT: Names = ["student.hidden_states", "student.weights", "student.bias"];
const TEACHER: Names = ["teacher.hidden_states", "teacher.weights", "teacher.bias"];

/// A tensor of the call as errors name it.
type Named = (&'static str, DType, Device);

/// Returns an error with the first reason why the loss cannot be computed, other than the chunks of the teacher.
pub(super) fn check<const D: usize, const L: usize>(
    call: &LossCall,
    batch: &LinearDistillationBatch<'_, D, L>,
) -> Result<()> {
    check_shapes(batch)?;
    let student = &batch.student;
    let classes = student.weights.dims()[0];
    let beside = Beside {
        teacher_ids: matches!(batch.teacher, LinearTeacher::TopK { .. }),
        soft_labels: batch.soft_labels.is_some(),
        class_weights: batch.class_weights.is_some(),
    };
    if let Some(teacher_classes) = batch.teacher_classes() {
        let classes = [classes, teacher_classes];
        arguments::check_configuration(&call.config, call.progress, classes, beside)?;
    }
    let tracked_bias = student.bias.as_ref().is_some_and(Tensor::is_tracked);
    let tracked_head = student.weights.is_tracked() || tracked_bias;
    if call.config.reduction == Reduction::None && tracked_head {
        return Err(Error::UnreducedHead);
    }
    let device = student.hidden_states.device().inner();
    check_types_and_devices(&device, batch)?;
    let tracked = student.hidden_states.is_tracked() || tracked_head;
    arguments::check_backend(&device, call.path, tracked)?;
    arguments::check_composed(call, beside.teacher_ids)
}

fn expect(name: &'static str, shape: &[usize], expected: &[usize]) -> Result<()> {
    if shape == expected {
        return Ok(());
    }
    Err(Error::LinearShape {
        name,
        shape: shape.to_vec(),
        expected: format!("{expected:?}"),
    })
}

fn expect_if<const D: usize>(
    name: &'static str,
    dims: Option<[usize; D]>,
    expected: &[usize],
) -> Result<()> {
    dims.map_or(Ok(()), |dims| expect(name, &dims, expected))
}

/// Checks hidden states with these rows and their head.
fn check_linear<const D: usize>(
    [hidden_states, weights, bias]: Names,
    linear: &LinearLogits<D>,
    rows: &[usize],
) -> Result<()> {
    let dims = linear.hidden_states.dims();
    let [classes, columns] = linear.weights.dims();
    let hidden = dims[D - 1];
    if hidden == 0 {
        return Err(Error::LinearShape {
            name: hidden_states,
            shape: dims.to_vec(),
            expected: "a hidden size of at least 1".to_owned(),
        });
    }
    expect(hidden_states, &dims, &[rows, &[hidden]].concat())?;
    if columns != hidden {
        return Err(Error::LinearShape {
            name: weights,
            shape: vec![classes, columns],
            expected: format!("[classes, {hidden}] for {hidden_states} of shape {dims:?}"),
        });
    }
    expect_if(bias, linear.bias.as_ref().map(Tensor::dims), &[classes])
}

fn check_shapes<const D: usize, const L: usize>(
    batch: &LinearDistillationBatch<'_, D, L>,
) -> Result<()> {
    let dims = batch.student.hidden_states.dims();
    if !(D == 2 || D == 3) {
        return Err(Error::LinearShape {
            name: STUDENT[0],
            shape: dims.to_vec(),
            expected: "[rows, hidden] or [batch, sequence, hidden]".to_owned(),
        });
    }
    let rows = &dims[..D - 1];
    check_linear(STUDENT, &batch.student, rows)?;
    match &batch.teacher {
        LinearTeacher::Linear(teacher) => check_linear(TEACHER, teacher, rows)?,
        LinearTeacher::Logits(logits) => check_teacher("teacher logits", &logits.dims(), rows)?,
        LinearTeacher::TopK {
            log_probabilities,
            ids,
        } => {
            let dims = log_probabilities.dims();
            check_teacher("teacher log_probabilities", &dims, rows)?;
            expect("teacher ids", &ids.dims(), &dims)?;
        }
        LinearTeacher::Chunks(_) => {}
    }
    let classes = batch.student.weights.dims()[0];
    let row_weights = batch.row_weights.as_ref().map(Tensor::dims);
    let mask_pad = batch.mask_pad.as_ref().map(Tensor::dims);
    let soft_labels = batch.soft_labels.as_ref().map(Tensor::dims);
    let class_weights = batch.class_weights.as_ref().map(Tensor::dims);
    expect("labels", &batch.labels.dims(), rows)?;
    expect_if("row_weights", row_weights, rows)?;
    expect_if("mask_pad", mask_pad, rows)?;
    expect_if("soft_labels", soft_labels, &[rows, &[classes]].concat())?;
    expect_if("class_weights", class_weights, &[classes])?;
    let denominator = match &batch.denominator {
        Some(Denominator::Tensor(number)) => Some(number.dims()),
        Some(Denominator::Count(count)) => Some(count.dims()),
        Some(Denominator::Number(_)) | None => None,
    };
    match denominator.filter(|dims| *dims != [1]) {
        Some(shape) => Err(Error::DenominatorShape {
            shape: shape.to_vec(),
        }),
        None => Ok(()),
    }
}

/// Checks that a teacher has these rows and any classes.
fn check_teacher(name: &'static str, dims: &[usize], rows: &[usize]) -> Result<()> {
    let classes = dims.last().copied().unwrap_or_default();
    expect(name, dims, &[rows, &[classes]].concat())
}

fn check_types_and_devices<const D: usize, const L: usize>(
    device: &Device,
    batch: &LinearDistillationBatch<'_, D, L>,
) -> Result<()> {
    let mut matrices = Vec::new();
    let mut lists: Vec<Named> = vec![("labels", batch.labels.dtype(), batch.labels.device())];
    push_linear(STUDENT, &batch.student, &mut matrices)?;
    match &batch.teacher {
        LinearTeacher::Linear(teacher) => push_linear(TEACHER, teacher, &mut matrices)?,
        LinearTeacher::Logits(t) => matrices.push(("teacher logits", t.dtype(), t.device())),
        LinearTeacher::TopK {
            log_probabilities: t,
            ids,
        } => {
            matrices.push(("teacher log_probabilities", t.dtype(), t.device()));
            lists.push(("teacher ids", ids.dtype(), ids.device()));
        }
        LinearTeacher::Chunks(_) => {}
    }
    let soft_labels = batch.soft_labels.as_ref();
    matrices.extend(soft_labels.map(|y| ("soft_labels", y.dtype(), y.device())));
    let row_weights = batch.row_weights.as_ref();
    lists.extend(row_weights.map(|w| ("row_weights", w.dtype(), w.device())));
    let class_weights = batch.class_weights.as_ref();
    lists.extend(class_weights.map(|w| ("class_weights", w.dtype(), w.device())));
    match &batch.denominator {
        Some(Denominator::Tensor(d)) => lists.push(("denominator", d.dtype(), d.device())),
        Some(Denominator::Count(d)) => lists.push(("denominator", d.dtype(), d.device())),
        Some(Denominator::Number(_)) | None => {}
    }
    for tensor in &matrices {
        check_matrix(device, tensor)?;
    }
    for tensor in &lists {
        check_tensor(device, tensor)?;
    }
    let mask_pad = batch.mask_pad.as_ref();
    mask_pad.map_or(Ok(()), |mask| {
        check_device(device, "mask_pad", mask.device())
    })
}

/// Adds hidden states and head to a list of tensors, or returns an error if their types differ.
fn push_linear<const D: usize>(
    [hidden_states, weights, bias]: Names,
    linear: &LinearLogits<D>,
    to: &mut Vec<Named>,
) -> Result<()> {
    let (states, own) = (&linear.hidden_states, &linear.weights);
    let expected = states.dtype();
    let head = [
        Some((weights, own.dtype(), own.device())),
        linear.bias.as_ref().map(|b| (bias, b.dtype(), b.device())),
    ];
    for (name, dtype, device) in head.into_iter().flatten() {
        if dtype != expected {
            return Err(Error::LinearType {
                name,
                dtype,
                hidden_states,
                expected,
            });
        }
        to.push((name, dtype, device));
    }
    to.push((hidden_states, expected, states.device()));
    Ok(())
}

/// Checks type and device of a matrix that the kernels or a matrix product read.
pub(super) fn check_matrix(device: &Device, tensor: &Named) -> Result<()> {
    let (name, dtype, _) = *tensor;
    match storage(dtype) {
        Some(_) => check_tensor(device, tensor),
        None => Err(Error::LogitsType { name, dtype }),
    }
}

fn check_tensor(device: &Device, (name, dtype, own): &Named) -> Result<()> {
    check_device(device, name, own.clone())?;
    arguments::check_type(device, name, *dtype)
}

fn check_device(device: &Device, name: &'static str, own: Device) -> Result<()> {
    let own = own.inner();
    if own == *device {
        return Ok(());
    }
    Err(Error::LinearDevices {
        student: format!("{device:?}"),
        name,
        other: format!("{own:?}"),
    })
}
