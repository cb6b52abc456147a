//! Checks of a call's tensors before anything is queued.

use burn::backend::DispatchDevice;
use burn::tensor::{Bool, DType, Device, FloatDType, Int, IntDType, Tensor};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::plan::{Matrix, Plan, Problem};
use wgpu_distill::{Batch, Config, Error as CoreError, Logits, Outputs, Progress, Values};

use crate::batch::DistillationBatch;
use crate::composed::Choices;
use crate::denominator::Denominator;
use crate::error::{Error, Result};
use crate::execution_path::ExecutionPath;
use crate::kernel_inputs::Arguments;
use crate::loss_call::LossCall;
use crate::matrix::{problem, storage};
use crate::{shared_device, source_kernels};

/// Optional tensors of a call that a configuration may not allow.
#[derive(Clone, Copy, Default)]
pub(crate) struct Beside {
    pub teacher_ids: bool,
    pub soft_labels: bool,
    pub class_weights: bool,
}

/// Logits of a batch without rows, for the core's checks of everything else.
pub(crate) fn logits_without_rows(classes: usize) -> Logits<'static> {
    Logits {
        values: Values::F32(&[]),
        classes,
        row_stride: classes,
    }
}

/// Runs the core's checks of configuration, progress, classes and optional tensors. They apply to every batch, including one without rows.
pub(crate) fn check_configuration(
    config: &Config,
    progress: Progress,
    [classes, teacher_classes]: [usize; 2],
    beside: Beside,
) -> Result<()> {
    let batch = |[classes, teacher_classes]: [usize; 2], class_weights| Batch {
        student_logits: logits_without_rows(classes),
        teacher_logits: logits_without_rows(teacher_classes),
        labels: &[],
        soft_labels: beside.soft_labels.then(|| logits_without_rows(classes)),
        row_weights: None,
        class_weights,
        teacher_ids: beside.teacher_ids.then_some(&[]),
    };
    let cpu = Cpu::new();
    let plain = batch([classes, teacher_classes], None);
    cpu.run(config, progress, &plain, Outputs::SUMMARY)?;
    if beside.class_weights {
        // The checks of the choices do not depend on the number of weights.
        let one_class = batch([1, 1], Some(&[1.0]));
        cpu.run(config, progress, &one_class, Outputs::SUMMARY)?;
    }
    Ok(())
}

/// Returns the arguments as matrices, or an error with the first reason why the loss cannot be computed.
pub(crate) fn check<const D: usize, const L: usize>(
    call: &LossCall,
    batch: DistillationBatch<D, L>,
    pad_tokens: &[i32],
) -> Result<Arguments> {
    let config = &call.config;
    let [rows, classes, teacher_classes] = check_shapes(&batch)?;
    let beside = Beside {
        teacher_ids: batch.teacher_ids.is_some(),
        soft_labels: batch.soft_labels.is_some(),
        class_weights: batch.class_weights.is_some(),
    };
    check_configuration(config, call.progress, [classes, teacher_classes], beside)?;
    let device = batch.student_logits.device().inner();
    check_types_and_devices(&device, &batch)?;
    check_backend(&device, call.path, batch.student_logits.is_tracked())?;
    check_composed(call, beside.teacher_ids)?;
    let labels = to_i32(batch.labels.reshape([rows]), config.ignore_index);
    let mask_pad = batch.mask_pad.map(|mask| mask.reshape([rows]));
    let arguments = Arguments {
        student: batch.student_logits.reshape([rows, classes]),
        teacher: batch.teacher_logits.reshape([rows, teacher_classes]),
        teacher_ids: batch
            .teacher_ids
            .map(|ids| to_i32(ids.reshape([rows * teacher_classes]), EMPTY_PLACE)),
        labels: without_padding(labels, mask_pad, pad_tokens, config.ignore_index),
        soft_labels: batch.soft_labels.map(|y| y.reshape([rows, classes])),
        row_weights: batch.row_weights.map(|w| to_f32(w.reshape([rows]))),
        class_weights: batch.class_weights.map(to_f32),
    };
    check_limits(call, &arguments, arguments.student.is_tracked(), &device)?;
    Ok(arguments)
}

/// Returns the number of rows, the student's classes and the teacher's classes.
fn check_shapes<const D: usize, const L: usize>(
    batch: &DistillationBatch<D, L>,
) -> Result<[usize; 3]> {
    let student = batch.student_logits.dims().to_vec();
    let teacher = batch.teacher_logits.dims().to_vec();
    let labels = batch.labels.dims().to_vec();
    if !(D == 2 || D == 3) {
        return Err(Error::LogitsRank {
            name: "student_logits",
            shape: student,
        });
    }
    let (row_dims, classes) = (&student[..D - 1], student[D - 1]);
    if *row_dims != teacher[..D - 1] {
        return Err(Error::Rows { student, teacher });
    }
    if *row_dims != labels[..] {
        return Err(Error::Labels {
            labels,
            expected: row_dims.to_vec(),
            student,
        });
    }
    let teacher_ids = batch.teacher_ids.as_ref().map(|ids| ids.dims().to_vec());
    if let Some(teacher_ids) = teacher_ids.filter(|dims| *dims != teacher) {
        return Err(Error::TeacherIds {
            teacher_ids,
            teacher,
        });
    }
    let row_weights = batch.row_weights.as_ref().map(|w| w.dims().to_vec());
    if let Some(row_weights) = row_weights.filter(|weights| *row_dims != weights[..]) {
        return Err(Error::RowWeights {
            row_weights,
            expected: row_dims.to_vec(),
            student,
        });
    }
    let soft_labels = batch.soft_labels.as_ref().map(|y| y.dims().to_vec());
    if let Some(soft_labels) = soft_labels.filter(|dims| *dims != student) {
        return Err(Error::SoftLabels {
            soft_labels,
            student,
        });
    }
    let class_weights = batch.class_weights.as_ref().map(|w| w.dims().to_vec());
    if let Some(class_weights) = class_weights.filter(|weights| *weights != [classes]) {
        return Err(Error::ClassWeights {
            class_weights,
            expected: vec![classes],
            student,
        });
    }
    let mask_pad = batch.mask_pad.as_ref().map(|mask| mask.dims().to_vec());
    if let Some(mask_pad) = mask_pad.filter(|mask| *row_dims != mask[..]) {
        return Err(Error::MaskPad {
            mask_pad,
            expected: row_dims.to_vec(),
            student,
        });
    }
    let denominator = match &batch.denominator {
        Some(Denominator::Tensor(number)) => Some(number.dims()),
        Some(Denominator::Count(count)) => Some(count.dims()),
        Some(Denominator::Number(_)) | None => None,
    };
    if let Some(shape) = denominator.filter(|dims| *dims != [1]) {
        return Err(Error::DenominatorShape {
            shape: shape.to_vec(),
        });
    }
    Ok([row_dims.iter().product(), classes, teacher[D - 1]])
}

fn check_types_and_devices<const D: usize, const L: usize>(
    device: &Device,
    batch: &DistillationBatch<D, L>,
) -> Result<()> {
    let matrices = [
        Some(("student_logits", &batch.student_logits)),
        Some(("teacher_logits", &batch.teacher_logits)),
        batch.soft_labels.as_ref().map(|y| ("soft_labels", y)),
    ];
    let matrices = matrices.map(|m| m.map(|(name, m)| (name, m.dtype(), m.device())));
    for &(name, dtype, _) in matrices.iter().flatten() {
        if storage(dtype).is_none() {
            return Err(Error::LogitsType { name, dtype });
        }
    }
    let (labels, row_weights) = (&batch.labels, batch.row_weights.as_ref());
    let class_weights = batch.class_weights.as_ref();
    let ids = batch.teacher_ids.as_ref();
    let lists = [
        ids.map(|ids| ("teacher_ids", ids.dtype(), ids.device())),
        Some(("labels", labels.dtype(), labels.device())),
        row_weights.map(|w| ("row_weights", w.dtype(), w.device())),
        class_weights.map(|w| ("class_weights", w.dtype(), w.device())),
    ];
    let denominator = match &batch.denominator {
        Some(Denominator::Tensor(d)) => Some(("denominator", d.dtype(), d.device())),
        Some(Denominator::Count(d)) => Some(("denominator", d.dtype(), d.device())),
        Some(Denominator::Number(_)) | None => None,
    };
    let tensors = || {
        matrices
            .iter()
            .chain(&lists)
            .chain([&denominator])
            .flatten()
    };
    let mask_pad = batch.mask_pad.as_ref();
    let mask_pad = mask_pad.map(|mask| ("mask_pad", mask.dtype(), mask.device()));
    for &(name, _, ref other) in tensors().chain(&mask_pad) {
        let other = other.clone().inner();
        if other != *device {
            return Err(Error::Devices {
                student: format!("{device:?}"),
                name,
                other: format!("{other:?}"),
            });
        }
    }
    for &(name, dtype, _) in tensors() {
        check_type(device, name, dtype)?;
    }
    Ok(())
}

/// Checks that Burn supports a type on a device.
pub(crate) fn check_type(device: &Device, name: &'static str, dtype: DType) -> Result<()> {
    // The kernels read logits of other types, but Burn's copies and casts of them fail.
    let common = matches!(dtype, DType::F32 | DType::Flex32 | DType::I32);
    if common || device.supports_dtype(dtype) {
        return Ok(());
    }
    Err(Error::TypeOnDevice {
        name,
        dtype,
        device: format!("{device:?}"),
    })
}

/// Checks that Burn's operations have the choices of the call, if they compute it.
pub(crate) fn check_composed(call: &LossCall, list: bool) -> Result<()> {
    if call.path != ExecutionPath::Composed {
        return Ok(());
    }
    Choices::of(&call.config)?;
    match list {
        true => Err(Error::NotComposed {
            field: "teacher_ids".to_owned(),
            value: "a list of classes".to_owned(),
        }),
        false => Ok(()),
    }
}

/// Checks that the backend supports autodiff of the loss and is not capturing a graph.
pub(crate) fn check_backend(device: &Device, path: ExecutionPath, tracked: bool) -> Result<()> {
    match device.as_dispatch() {
        // A capture records the operations of the composed path.
        DispatchDevice::Cube(device)
            if path != ExecutionPath::Composed && device.client().is_capturing() =>
        {
            Err(Error::Capturing)
        }
        DispatchDevice::Cube(_) | DispatchDevice::Flex(_) => Ok(()),
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => Ok(()),
        #[allow(unreachable_patterns, reason = "other backends are features of burn")]
        other if tracked => Err(Error::Backend {
            device: format!("{other:?}"),
        }),
        #[allow(unreachable_patterns, reason = "other backends are features of burn")]
        _ => Ok(()),
    }
}

/// Weights of rows or classes as f32.
pub(crate) fn to_f32(weights: Tensor<1>) -> Tensor<1> {
    match weights.dtype() {
        DType::F32 => weights,
        _ => weights.cast(FloatDType::F32),
    }
}

/// An empty place in the teacher's list.
pub(crate) const EMPTY_PLACE: i32 = -1;

/// Labels or classes as i32. One beyond i32 becomes one that is out of range and not `ignore_index`.
pub(crate) fn to_i32(labels: Tensor<1, Int>, ignore_index: i32) -> Tensor<1, Int> {
    let labels = match labels.dtype() {
        DType::I32 => return labels,
        DType::I64 => {
            // -1 and the two ends of i32 are no classes, but one of them may be `ignore_index`.
            let low = if ignore_index == i32::MIN {
                -1
            } else {
                i32::MIN
            };
            let below = labels.clone().lower_scalar(i64::from(i32::MIN));
            let above = labels.clone().greater_scalar(i64::from(i32::MAX));
            let high = if ignore_index == i32::MAX {
                -1
            } else {
                i32::MAX
            };
            labels.mask_fill(below, low).mask_fill(above, high)
        }
        DType::U64 | DType::U32 => {
            let above = labels.clone().greater_scalar(i64::from(i32::MAX));
            let high = if ignore_index == i32::MAX {
                i32::MAX - 1
            } else {
                i32::MAX
            };
            labels.mask_fill(above, high)
        }
        _ => labels,
    };
    labels.cast(IntDType::I32)
}

/// The labels, `[rows]`, with `ignore_index` where the mask is true and in place of each pad token.
pub(crate) fn without_padding(
    labels: Tensor<1, Int>,
    mask_pad: Option<Tensor<1, Bool>>,
    pad_tokens: &[i32],
    ignore_index: i32,
) -> Tensor<1, Int> {
    let tokens = pad_tokens.iter().filter(|token| **token != ignore_index);
    let masks = tokens.map(|token| labels.clone().equal_scalar(*token));
    let padding = masks.chain(mask_pad).reduce(Tensor::bool_or);
    match padding {
        Some(padding) => labels.mask_fill(padding, ignore_index),
        None => labels,
    }
}

/// The number in a row of labels or of a teacher's list that its cast to i32 did not keep.
fn beyond_i32(given: Tensor<2, Int>, row: usize) -> Option<i128> {
    let [_, columns] = given.dims();
    let data = given.slice([row..row + 1, 0..columns]).into_data();
    let numbers: Vec<i128> = match data.dtype() {
        DType::U64 => data.iter::<u64>().map(i128::from).collect(),
        _ => data.iter::<i64>().map(i128::from).collect(),
    };
    let beyond = |number: &i128| i32::try_from(*number).is_err();
    numbers.into_iter().find(beyond)
}

/// Labels and classes as the caller gave them, where an error can name them: on the host, if their type is wider than i32.
#[derive(Clone)]
pub(crate) struct Given {
    labels: Option<Tensor<2, Int>>,
    teacher_ids: Option<Tensor<2, Int>>,
}

impl Given {
    pub fn of<const D: usize, const L: usize>(
        labels: &Tensor<L, Int>,
        teacher_ids: Option<&Tensor<D, Int>>,
        path: ExecutionPath,
    ) -> Self {
        let wide = |dtype| {
            path == ExecutionPath::Host && matches!(dtype, DType::I64 | DType::U64 | DType::U32)
        };
        let labels = Some(labels).filter(|labels| wide(labels.dtype()));
        let ids = teacher_ids.filter(|ids| wide(ids.dtype()));
        Self {
            labels: labels.map(|labels| labels.clone().reshape([-1, 1])),
            teacher_ids: ids.map(|ids| {
                let k = ids.dims()[D - 1];
                ids.clone().reshape([-1, k as i32])
            }),
        }
    }

    /// The error with the number as it was given, if its cast to i32 did not keep it.
    pub fn name(self, error: Error) -> Error {
        let (name, given, row, classes) = match &error {
            Error::Distill(CoreError::LabelOutOfRange { row, classes, .. }) => {
                ("labels", self.labels, *row, *classes)
            }
            Error::Distill(CoreError::TeacherIdOutOfRange { row, classes, .. }) => {
                ("teacher_ids", self.teacher_ids, *row, *classes)
            }
            _ => return error,
        };
        let value = given.and_then(|given| beyond_i32(given, row));
        value.map_or(error, |value| Error::ClassOutOfRange {
            name,
            row,
            value,
            classes,
        })
    }
}

/// Checks that a row fits the device's limits. With fusion, an error of the queued kernels would come only at the next read.
pub(crate) fn check_limits(
    call: &LossCall,
    arguments: &Arguments,
    want_gradient: bool,
    device: &Device,
) -> Result<()> {
    let DispatchDevice::Cube(cube) = device.as_dispatch() else {
        return Ok(());
    };
    // The addresses of queued tensors are not known yet.
    let matrix = |tensor: &Tensor<2>| Matrix {
        storage: storage(tensor.dtype()).unwrap_or_default(),
        row_stride: tensor.dims()[1],
        offset: 0,
        buffer_bytes: u64::MAX,
    };
    let (student, teacher) = (&arguments.student, &arguments.teacher);
    let [rows, classes] = student.dims();
    let problem = problem(
        rows,
        [classes, teacher.dims()[1]],
        matrix(student),
        matrix(teacher),
        want_gradient.then(|| Matrix {
            storage: storage(call.gradient_type(student.dtype())).unwrap_or_default(),
            ..matrix(student)
        }),
    );
    let problem = Problem {
        teacher_list: arguments.teacher_ids.is_some(),
        soft_labels: arguments.soft_labels.as_ref().map(matrix),
        row_weights: arguments.row_weights.is_some(),
        class_weights: arguments.class_weights.is_some(),
        metrics: call.row_metrics,
        ..problem
    };
    match call.path {
        ExecutionPath::SharedDevice => {
            if let Some(shared) = shared_device::find(cube) {
                Plan::new(&call.config, &problem, &shared.gpu.limits())?;
            }
        }
        ExecutionPath::SourceKernels => {
            source_kernels::plan(&call.config, &problem, &source_kernels::limits(cube))?;
        }
        ExecutionPath::Host | ExecutionPath::Composed => {}
    }
    Ok(())
}
