//! Checks of a call's tensors before anything is queued.

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Int, IntDType, Tensor};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::plan::{Matrix, Plan};
use wgpu_distill::{Batch, Config, Logits, Outputs, Progress, Values};

use crate::composed::Choices;
use crate::error::{Error, Result};
use crate::execution_path::ExecutionPath;
use crate::matrix::{problem, storage};
use crate::{shared_device, source_kernels};

/// Tensors of one device whose shapes and types fit together.
pub(crate) struct Arguments {
    /// `[rows, classes]`, with the caller's autodiff.
    pub student: Tensor<2>,
    /// `[rows, classes of the teacher]`
    pub teacher: Tensor<2>,
    /// `i32 [rows]`
    pub labels: Tensor<1, Int>,
    pub path: ExecutionPath,
}

/// Runs the core's checks of configuration, progress and classes. They apply to every batch, including one without rows.
pub(crate) fn check_configuration(
    config: &Config,
    progress: Progress,
    [classes, teacher_classes]: [usize; 2],
) -> Result<()> {
    let no_rows = |classes| Logits {
        values: Values::F32(&[]),
        classes,
        row_stride: classes,
    };
    let batch = Batch {
        student_logits: no_rows(classes),
        teacher_logits: no_rows(teacher_classes),
        labels: &[],
        soft_labels: None,
        row_weights: None,
    };
    Cpu::new().run(config, progress, &batch, Outputs::SUMMARY)?;
    Ok(())
}

/// Returns the arguments as matrices, or an error with the first reason why the loss cannot be computed.
pub(crate) fn check<const D: usize, const L: usize>(
    config: &Config,
    path: ExecutionPath,
    student: Tensor<D>,
    teacher: Tensor<D>,
    labels: Tensor<L, Int>,
    progress: Progress,
) -> Result<Arguments> {
    let [rows, classes, teacher_classes] = check_shapes(&student, &teacher, &labels)?;
    check_configuration(config, progress, [classes, teacher_classes])?;
    let device = student.device().inner();
    check_types_and_devices(&device, &student, &teacher, &labels)?;
    check_backend(&device, path, student.is_tracked())?;
    if path == ExecutionPath::Composed {
        Choices::of(config)?;
    }
    let arguments = Arguments {
        student: student.reshape([rows, classes]),
        teacher: teacher.reshape([rows, teacher_classes]),
        labels: to_i32(labels.reshape([rows]), config.ignore_index),
        path,
    };
    check_limits(config, &arguments, &device)?;
    Ok(arguments)
}

/// Returns the number of rows, the student's classes and the teacher's classes.
fn check_shapes<const D: usize, const L: usize>(
    student: &Tensor<D>,
    teacher: &Tensor<D>,
    labels: &Tensor<L, Int>,
) -> Result<[usize; 3]> {
    let (student, teacher) = (student.dims().to_vec(), teacher.dims().to_vec());
    let labels = labels.dims().to_vec();
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
    Ok([row_dims.iter().product(), classes, teacher[D - 1]])
}

fn check_types_and_devices<const D: usize, const L: usize>(
    device: &Device,
    student: &Tensor<D>,
    teacher: &Tensor<D>,
    labels: &Tensor<L, Int>,
) -> Result<()> {
    let dtypes = [
        ("student_logits", student.dtype()),
        ("teacher_logits", teacher.dtype()),
    ];
    for (name, dtype) in dtypes {
        if storage(dtype).is_none() {
            return Err(Error::LogitsType { name, dtype });
        }
    }
    for (name, other) in [
        ("teacher_logits", teacher.device().inner()),
        ("labels", labels.device().inner()),
    ] {
        if other != *device {
            return Err(Error::Devices {
                student: format!("{device:?}"),
                name,
                other: format!("{other:?}"),
            });
        }
    }
    for (name, dtype) in dtypes {
        // The kernels read such logits, but Burn's copies and casts of them fail.
        if matches!(dtype, DType::F16 | DType::BF16) && !device.supports_dtype(dtype) {
            return Err(Error::TypeOnDevice {
                name,
                dtype,
                device: format!("{device:?}"),
            });
        }
    }
    Ok(())
}

/// Checks that the backend supports autodiff of the loss and is not capturing a graph.
fn check_backend(device: &Device, path: ExecutionPath, tracked: bool) -> Result<()> {
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

/// Labels as i32. A label beyond i32 becomes an i32 label that is out of range.
fn to_i32(labels: Tensor<1, Int>, ignore_index: i32) -> Tensor<1, Int> {
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

/// Checks that a row fits the device's limits. With fusion, an error of the queued kernels would come only at the next read.
fn check_limits(config: &Config, arguments: &Arguments, device: &Device) -> Result<()> {
    let DispatchDevice::Cube(cube) = device.as_dispatch() else {
        return Ok(());
    };
    let limits = match arguments.path {
        ExecutionPath::SharedDevice => shared_device::find(cube).map(|shared| shared.gpu.limits()),
        ExecutionPath::SourceKernels => Some(source_kernels::limits(cube)),
        ExecutionPath::Host | ExecutionPath::Composed => None,
    };
    let Some(limits) = limits else {
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
        student.is_tracked().then(|| matrix(student)),
    );
    Plan::new(config, &problem, &limits)?;
    Ok(())
}
