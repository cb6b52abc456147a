//! The same shaders as source kernels, launched by Burn's own runtime: for a device that was not shared and a runtime that speaks WGSL.
//!
//! CubeCL binds every buffer `read_write`, numbered from 0, and knows no uniforms. Several tensors may lie in one buffer, which WebGPU forbids to bind both ways.

use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use cubecl::ir::attributes::BufferIOAttr;
use cubecl::ir::features::Plane;
use cubecl::prelude::*;
use cubecl::server::{Handle, KernelArguments};
use cubecl::{CubeKernel, PrecompiledSource};
use wgpu_distill::Storage;
use wgpu_distill::plan::{Dispatch, Limits, List, Lists, Matrix, Operand, Plan, Problem, Window};
use wgpu_distill::shader::{BindingKind, Dialect, Kernel, Variant, assemble};

use crate::Result;
use crate::cube::{Work, row_stride};
use crate::ops::Raw;
use crate::task::{Task, storage};

/// What of CubeCL's device concerns planning.
pub(crate) fn limits(device: &CubeDevice) -> Limits {
    let client = device.client();
    let properties = client.properties();
    let hardware = &properties.hardware;
    let (min, max) = (hardware.plane_size_min, hardware.plane_size_max);
    let subgroups = properties.features.plane.contains(Plane::Ops)
        && min.is_power_of_two()
        && max.is_power_of_two()
        && min <= max;
    Limits {
        binding_bytes: properties.memory.max_page_size,
        buffer_bytes: properties.memory.max_page_size,
        // CubeCL keeps one of the device's bindings for itself; a kernel of ours takes no such one.
        storage_buffers: hardware.max_bindings.saturating_add(1),
        offset_alignment: properties.memory.alignment.max(16),
        workgroup_invocations: hardware.max_units_per_cube.min(hardware.max_cube_dim.0),
        workgroup_bytes: u32::try_from(hardware.max_shared_memory_size).unwrap_or(u32::MAX),
        workgroups: hardware.max_cube_count.0,
        subgroup: subgroups.then_some((min, max)),
        // A device that is no card renders in software.
        software: properties.identity.physical.is_none(),
        ..Limits::DEFAULT
    }
}

pub(crate) fn distill(work: Work, task: &Task) -> Result<Raw<CubeBackend>> {
    let limits = limits(&work.student.device);
    let (classes, theirs) = (work.student.meta.shape()[1], work.teacher.meta.shape()[1]);
    let problem = Problem {
        rows: work.student.meta.shape()[0],
        classes,
        teacher_classes: classes.min(theirs),
        student: matrix(&work.student),
        teacher: matrix(&work.teacher),
        gradient: work.gradient.as_ref().map(matrix),
        shared_buffers: true,
        in_place: false,
    };
    let plan = Plan::new(&task.config, &problem, &limits)?;
    let list = |tensor: &CubeTensor| List::new(tensor.handle.size_in_used());
    let lists = Lists {
        labels: list(&work.labels),
        row_results: Some(list(&work.rows)),
        summary: Some(list(&work.summary)),
    };
    let dispatches = plan.dispatches(&task.config, task.progress, &lists)?;
    let workspace = workspace(&work, &plan);
    for dispatch in dispatches {
        launch(&work, &workspace, dispatch);
    }
    Ok(work.finish(0))
}

fn matrix(tensor: &CubeTensor) -> Matrix {
    Matrix {
        storage: storage(tensor.dtype).unwrap_or(Storage::F32),
        row_stride: row_stride(tensor).unwrap_or(tensor.meta.shape()[1]),
        offset: 0,
        buffer_bytes: tensor.handle.size_in_used(),
    }
}

/// A kernel in the variant of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shader {
    kernel: Kernel,
    variant: Variant,
}

impl KernelMetadata for Shader {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>()
            .info(self.clone())
            .cube_dim(self.cube_dim().0)
    }

    fn address_type(&self) -> cubecl::ir::ElemType {
        cubecl::ir::ElemType::UInt(cubecl::ir::UIntKind::U32)
    }
}

impl Shader {
    fn cube_dim(&self) -> CubeDim {
        CubeDim::new_1d(self.variant.workgroup_size)
    }

    /// The kernel's text with its bindings as CubeCL makes them.
    fn text(&self) -> String {
        let mut text = assemble(self.kernel, &self.variant, Dialect::Naga);
        for (place, binding) in self.kernel.bindings(&self.variant).iter().enumerate() {
            let index = binding.index;
            let start = text.find(&format!("@group(0) @binding({index}) var<"));
            let start = start.expect("a kernel declares its bindings");
            let length = text[start..].find('>').expect("of an address space") + 1;
            // Numbers go down or stay, so that none is met twice.
            let new = format!("@group(0) @binding({place}) var<storage, read_write>");
            text.replace_range(start..start + length, &new);
        }
        text
    }
}

impl CubeKernel for Shader {
    fn define(&self) -> KernelDefinition {
        // The text is the kernel; this only says how large a workgroup is.
        let settings =
            KernelSettings::new(self.cube_dim().0, ExecutionMode::Checked, AddressType::U32);
        KernelDefinition {
            body: cubecl::ir::Scope::root(settings.clone()),
            settings,
            info: Default::default(),
        }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        Some(PrecompiledSource {
            source: self.text(),
            entrypoint_name: "main".to_owned(),
            lang: "wgsl",
        })
    }
}

/// The temporary buffers of a plan. What they held before is nobody's, but for a count that starts from 0.
fn workspace(work: &Work, plan: &Plan) -> Vec<(Operand, Handle)> {
    let client = &work.student.client;
    let make = |(operand, bytes): (Operand, u64)| {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let handle = match operand {
            Operand::ValidRows => client.create_from_slice(&vec![0; bytes]),
            _ => client.empty(bytes),
        };
        (operand, handle)
    };
    plan.workspace().into_iter().map(make).collect()
}

/// What of an operand's buffer a dispatch binds.
fn bound(work: &Work, workspace: &[(Operand, Handle)], window: &Window) -> Handle {
    let tensor = match window.operand {
        Operand::StudentLogits => Some(&work.student),
        Operand::TeacherLogits => Some(&work.teacher),
        Operand::Labels => Some(&work.labels),
        Operand::Gradient => work.gradient.as_ref(),
        Operand::RowResults => Some(&work.rows),
        Operand::Summary => Some(&work.summary),
        _ => None,
    };
    let own = || workspace.iter().find(|(own, _)| *own == window.operand);
    let handle = match tensor {
        Some(tensor) => &tensor.handle,
        None => &own().expect("a plan's workspace has every buffer").1,
    };
    // CubeCL rounds a binding up to whole words itself.
    let rest = handle
        .size_in_used()
        .saturating_sub(window.offset + window.bytes);
    handle.clone().offset_start(window.offset).offset_end(rest)
}

fn launch(work: &Work, workspace: &[(Operand, Handle)], dispatch: Dispatch) {
    let client = &work.student.client;
    let params = client.create_from_slice(bytemuck::bytes_of(&dispatch.params));
    let mut arguments =
        KernelArguments::new().with_buffer_io(params.binding(), BufferIOAttr::ReadOnly);
    for (binding, window) in &dispatch.windows {
        let io = match (binding.kind, window.operand) {
            (BindingKind::Uniform | BindingKind::Read, _)
            | (_, Operand::StudentLogits | Operand::TeacherLogits | Operand::Labels) => {
                BufferIOAttr::ReadOnly
            }
            _ => BufferIOAttr::ReadWrite,
        };
        arguments = arguments.with_buffer_io(bound(work, workspace, window).binding(), io);
    }
    let shader = Shader {
        kernel: dispatch.kernel,
        variant: dispatch.variant,
    };
    client.launch(
        Box::new(shader),
        CubeCount::Static(dispatch.workgroups, 1, 1),
        arguments,
    );
}
