//! Refusals, before anything runs.

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Int, IntDType, Tensor};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::plan::{Matrix, Plan, Problem};
use wgpu_distill::{Batch, Config, Error as CoreError, Outputs, Progress, TeacherClasses};

use crate::task::storage;
use crate::{Error, Path, Result, share, source};

/// Tensors that fit together, as rows.
pub(crate) struct Arguments {
    /// `[rows, classes]`, still under autodiff if it was.
    pub student: Tensor<2>,
    /// `[rows, classes]`
    pub teacher: Tensor<2>,
    /// `i32 [rows]`
    pub labels: Tensor<1, Int>,
    pub path: Path,
}

/// A configuration that the kernels take, whatever the problem.
pub(crate) fn config(config: &Config) -> Result<()> {
    let nothing: &[f32] = &[];
    let batch = Batch::new(nothing, nothing, &[], 1);
    Cpu::new().run(config, Progress::new(0, 1), &batch, Outputs::SUMMARY)?;
    Ok(())
}

pub(crate) fn arguments<const D: usize, const L: usize>(
    config: &Config,
    path: Path,
    student: Tensor<D>,
    teacher: Tensor<D>,
    labels: Tensor<L, Int>,
    progress: Progress,
) -> Result<Arguments> {
    if progress.total == 0 || progress.step > progress.total {
        let Progress { step, total } = progress;
        return Err(CoreError::InvalidProgress { step, total }.into());
    }
    let (s, t, l) = (
        student.dims().to_vec(),
        teacher.dims().to_vec(),
        labels.dims().to_vec(),
    );
    if !(D == 2 || D == 3) {
        return Err(Error::LogitsRank {
            name: "student_logits",
            shape: s,
        });
    }
    if s[..D - 1] != t[..D - 1] {
        return Err(Error::Rows {
            student: s,
            teacher: t,
        });
    }
    if l != s[..D - 1] {
        return Err(Error::Labels {
            labels: l,
            expected: s[..D - 1].to_vec(),
            student: s,
        });
    }
    let (classes, theirs) = (s[D - 1], t[D - 1]);
    for (name, classes) in [("student_logits", classes), ("teacher_logits", theirs)] {
        if classes == 0 {
            return Err(CoreError::ZeroClasses { name }.into());
        }
    }
    if classes != theirs && config.teacher_classes == TeacherClasses::SameAsStudent {
        return Err(CoreError::ShapeMismatch {
            student: classes,
            teacher: theirs,
        }
        .into());
    }
    for (name, dtype) in [
        ("student_logits", student.dtype()),
        ("teacher_logits", teacher.dtype()),
    ] {
        if storage(dtype).is_none() {
            return Err(Error::LogitsType { name, dtype });
        }
    }
    let device = student.device().inner();
    for (name, other) in [
        ("teacher_logits", teacher.device()),
        ("labels", labels.device()),
    ] {
        let other = other.inner();
        if other != device {
            return Err(Error::Devices {
                student: format!("{device:?}"),
                name,
                other: format!("{other:?}"),
            });
        }
    }
    for (name, dtype) in [
        ("student_logits", student.dtype()),
        ("teacher_logits", teacher.dtype()),
    ] {
        // Our kernels would read it, Burn's copies and casts around them would not.
        if matches!(dtype, DType::F16 | DType::BF16) && !device.supports_dtype(dtype) {
            return Err(Error::TypeOnDevice {
                name,
                dtype,
                device: format!("{device:?}"),
            });
        }
    }
    runs_on(&device, path, student.is_tracked())?;
    let rows: usize = s[..D - 1].iter().product();
    let arguments = Arguments {
        student: student.reshape([rows, classes]),
        teacher: teacher.reshape([rows, theirs]),
        labels: narrowed(labels.reshape([rows]), config.ignore_index),
        path,
    };
    fits(config, &arguments, &device)?;
    if path == Path::Host {
        known_labels(config, &arguments)?;
    }
    Ok(arguments)
}

/// The backend can record what the loss needs, and is not recording a graph.
fn runs_on(device: &Device, path: Path, tracked: bool) -> Result<()> {
    match device.as_dispatch() {
        // Burn's own operations are recorded like any others.
        DispatchDevice::Cube(device)
            if path != Path::Composed && device.client().is_capturing() =>
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

/// Labels as i32. What an i32 cannot hold becomes a label out of range, not another class.
fn narrowed(labels: Tensor<1, Int>, ignore_index: i32) -> Tensor<1, Int> {
    let labels = match labels.dtype() {
        DType::I32 => return labels,
        DType::I64 => {
            // -1 and the largest i32 are no class; but one of them may mean "ignored".
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

/// The device's limits, asked before the work is queued: an error from within Burn's queue would come too late.
fn fits(config: &Config, arguments: &Arguments, device: &Device) -> Result<()> {
    let DispatchDevice::Cube(cube) = device.as_dispatch() else {
        return Ok(());
    };
    let limits = match arguments.path {
        Path::SharedDevice => share::find(cube).map(|shared| shared.gpu.limits()),
        Path::SourceKernels => Some(source::limits(cube)),
        Path::Host | Path::Composed => None,
    };
    let Some(limits) = limits else {
        return Ok(());
    };
    let (student, teacher) = (&arguments.student, &arguments.teacher);
    let [rows, classes] = student.dims();
    let matrix = |tensor: &Tensor<2>| Matrix {
        storage: storage(tensor.dtype()).unwrap_or_default(),
        row_stride: tensor.dims()[1],
        offset: 0,
        buffer_bytes: u64::MAX,
    };
    let problem = Problem {
        rows,
        classes,
        teacher_classes: classes.min(teacher.dims()[1]),
        student: matrix(student),
        teacher: matrix(teacher),
        gradient: student.is_tracked().then(|| matrix(student)),
        shared_buffers: true,
        in_place: false,
    };
    Plan::new(config, &problem, &limits)?;
    Ok(())
}

/// On the host a label out of range is refused, since looking costs nothing.
fn known_labels(config: &Config, arguments: &Arguments) -> Result<()> {
    let classes = arguments.student.dims()[1];
    let data = arguments.labels.to_data();
    let labels = data.as_slice::<i32>().unwrap_or_default();
    let known = |label: i32| {
        label == config.ignore_index || usize::try_from(label).is_ok_and(|label| label < classes)
    };
    match labels.iter().position(|&label| !known(label)) {
        None => Ok(()),
        Some(row) => Err(CoreError::LabelOutOfRange {
            row,
            label: labels[row],
            classes,
        }
        .into()),
    }
}
