//! The shaders of wgpu-distill, compiled and launched by Burn's runtime: for a wgpu device that is not shared.
//!
//! CubeCL numbers the bindings from 0, binds every buffer `read_write` and has no uniform buffers. WebGPU forbids binding
//! one buffer both `read` and `read_write`, and a CubeCL buffer may hold several tensors.

use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use cubecl::ir::attributes::BufferIOAttr;
use cubecl::ir::features::Plane;
use cubecl::prelude::*;
use cubecl::server::{Handle, KernelArguments};
use cubecl::{CubeKernel, PrecompiledSource};
use wgpu_distill::plan::{
    Dispatch, LabelType, Limits, List, Lists, Matrix, Operand, Plan, Problem, ShardLists,
    ShardStep, Window,
};
use wgpu_distill::shader::{BindingKind, Dialect, Kernel, Variant, assemble};
use wgpu_distill::{Config, Shard, Storage};

use crate::error::{Error, Result};
use crate::kernel_outputs::KernelOutputs;
use crate::kernel_tensors::{KernelTensors, row_stride};
use crate::loss_call::LossCall;
use crate::matrix::{problem, storage};

/// The planner's limits of a CubeCL device.
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
        // CubeCL reserves one binding of the device for its own kernels.
        storage_buffers: hardware.max_bindings.saturating_add(1),
        offset_alignment: properties.memory.alignment.max(16),
        workgroup_invocations: hardware.max_units_per_cube.min(hardware.max_cube_dim.0),
        workgroup_bytes: u32::try_from(hardware.max_shared_memory_size).unwrap_or(u32::MAX),
        workgroups: hardware.max_cube_count.0,
        subgroup: subgroups.then_some((min, max)),
        // A device without a physical card runs in software.
        software: properties.identity.physical.is_none(),
        ..Limits::DEFAULT
    }
}

/// The plan for a device with these limits, or an error if a kernel has more tensors than it can bind.
pub(crate) fn plan(config: &Config, problem: &Problem, limits: &Limits) -> Result<Plan> {
    let plan = Plan::new(config, problem, limits)?;
    // The parameters are a storage buffer here.
    let bindings = |kernel: Kernel| kernel.bindings(&plan.variant_of(kernel)).len() as u64;
    let needed = plan.kernels().into_iter().map(bindings).max().unwrap_or(0);
    let limit = u64::from(limits.storage_buffers);
    if limit < needed {
        return Err(Error::Distill(wgpu_distill::Error::DeviceLimit {
            what: "storage buffers per kernel",
            needed,
            limit,
        }));
    }
    Ok(plan)
}

pub(crate) fn distill(
    tensors: KernelTensors,
    call: &LossCall,
) -> Result<KernelOutputs<CubeBackend>> {
    run(&tensors, call, None)?;
    // Each binding starts at its tensor.
    Ok(tensors.into_outputs([0; 2]))
}

/// A step on a slice of the classes, and the statistics that it reads and writes.
pub(crate) struct ShardTensors {
    pub shard: Shard,
    pub step: ShardStep,
    /// Records of a row in the lists that the step reads.
    pub shards: usize,
    /// `i32`, the words of [`RowStats`](wgpu_distill::RowStats).
    pub row_stats: CubeTensor,
    /// `i32`, the words of [`SweepSums`](wgpu_distill::SweepSums).
    pub sweep_sums: Option<CubeTensor>,
}

impl ShardTensors {
    fn lists(&self) -> ShardLists {
        let list = |tensor: &CubeTensor| List::new(tensor.handle.size_in_used());
        ShardLists {
            step: self.step,
            shards: u32::try_from(self.shards).unwrap_or(u32::MAX),
            row_stats: list(&self.row_stats),
            sweep_sums: self.sweep_sums.as_ref().map(list),
        }
    }
}

/// Launches the kernels of the whole loss, or those of a step on a slice of the classes.
pub(crate) fn run(
    tensors: &KernelTensors,
    call: &LossCall,
    of_shard: Option<&ShardTensors>,
) -> Result<()> {
    let columns = |tensor: &CubeTensor| tensor.meta.shape()[1];
    let problem = problem(
        tensors.row_count(),
        [columns(&tensors.student), columns(&tensors.teacher)],
        matrix(&tensors.student),
        matrix(&tensors.teacher),
        tensors.gradient.as_ref().map(matrix),
    );
    let problem = Problem {
        teacher_list: tensors.teacher_ids.is_some(),
        soft_labels: tensors.soft_labels.as_ref().map(matrix),
        row_weights: tensors.row_weights.is_some(),
        class_weights: tensors.class_weights.is_some(),
        metrics: tensors.row_metrics,
        shard: of_shard.map(|of| of.shard),
        ..problem
    };
    let plan = plan(&call.config, &problem, &limits(&tensors.student.device))?;
    let list = |tensor: &CubeTensor| List::new(tensor.handle.size_in_used());
    let rows = list(&tensors.rows.tensor);
    let lists = Lists {
        labels: list(&tensors.labels),
        label_type: LabelType::I32,
        row_weights: tensors.row_weights.as_ref().map(list),
        class_weights: tensors.class_weights.as_ref().map(list),
        teacher_ids: tensors.teacher_ids.as_ref().map(list),
        row_results: (!tensors.row_metrics).then_some(rows),
        row_metrics: tensors.row_metrics.then_some(rows),
        summary: Some(list(&tensors.summary.tensor)),
        shard: of_shard.map(ShardTensors::lists),
    };
    let dispatches = plan.dispatches(&call.config, call.progress, &lists)?;
    let workspace = workspace(tensors, &plan);
    let handle_of = |operand| match tensor_of(tensors, of_shard, operand) {
        Some(tensor) => tensor.handle.clone(),
        None => {
            let mut temporary = workspace.iter();
            let found = temporary.find(|(of, _)| *of == operand);
            found
                .expect("a plan lists all its temporary buffers")
                .1
                .clone()
        }
    };
    for dispatch in dispatches {
        launch(tensors, &handle_of, dispatch);
    }
    Ok(())
}

fn matrix(tensor: &CubeTensor) -> Matrix {
    Matrix {
        storage: storage(tensor.dtype).unwrap_or(Storage::F32),
        row_stride: row_stride(tensor).unwrap_or(tensor.meta.shape()[1]),
        offset: 0,
        buffer_bytes: tensor.handle.size_in_used(),
    }
}

/// A kernel of wgpu-distill as a kernel of CubeCL.
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

    /// The kernel's text with CubeCL's bindings.
    fn text(&self) -> String {
        let mut text = assemble(self.kernel, &self.variant, Dialect::Naga);
        for (position, binding) in self.kernel.bindings(&self.variant).iter().enumerate() {
            let index = binding.index;
            let start = text.find(&format!("@group(0) @binding({index}) var<"));
            let start = start.expect("a kernel declares its bindings");
            let length = text[start..].find('>').expect("of an address space") + 1;
            // A binding's position is at most its index, so no new number is replaced again.
            let new = format!("@group(0) @binding({position}) var<storage, read_write>");
            text.replace_range(start..start + length, &new);
        }
        text
    }
}

impl CubeKernel for Shader {
    fn define(&self) -> KernelDefinition {
        // CubeCL compiles the text of `source`; the definition supplies only the workgroup size.
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

/// The temporary buffers of a plan, uninitialised.
fn workspace(tensors: &KernelTensors, plan: &Plan) -> Vec<(Operand, Handle)> {
    let client = &tensors.student.client;
    let allocate = |(operand, bytes): (Operand, u64)| {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        (operand, client.empty(bytes))
    };
    plan.workspace().into_iter().map(allocate).collect()
}

/// The tensor of an operand; `None` for temporary buffers.
fn tensor_of<'a>(
    tensors: &'a KernelTensors,
    of_shard: Option<&'a ShardTensors>,
    operand: Operand,
) -> Option<&'a CubeTensor> {
    match operand {
        Operand::StudentLogits => Some(&tensors.student),
        Operand::TeacherLogits => Some(&tensors.teacher),
        Operand::TeacherIds => tensors.teacher_ids.as_ref(),
        Operand::Labels => Some(&tensors.labels),
        Operand::SoftLabels => tensors.soft_labels.as_ref(),
        Operand::RowWeights => tensors.row_weights.as_ref(),
        Operand::ClassWeights => tensors.class_weights.as_ref(),
        Operand::Gradient => tensors.gradient.as_ref(),
        Operand::RowResults | Operand::RowMetrics => Some(&tensors.rows.tensor),
        Operand::Summary => Some(&tensors.summary.tensor),
        Operand::SegmentStats => of_shard.map(|of| &of.row_stats),
        Operand::SweepSums => of_shard?.sweep_sums.as_ref(),
        _ => None,
    }
}

/// The part of a buffer that a dispatch binds.
fn bound(handle: Handle, window: &Window) -> Handle {
    // CubeCL rounds a binding up to whole words.
    let rest = handle
        .size_in_used()
        .saturating_sub(window.offset + window.bytes);
    handle.offset_start(window.offset).offset_end(rest)
}

fn launch(tensors: &KernelTensors, handle_of: &dyn Fn(Operand) -> Handle, dispatch: Dispatch) {
    let client = &tensors.student.client;
    let params = client.create_from_slice(bytemuck::bytes_of(&dispatch.params));
    let mut arguments =
        KernelArguments::new().with_buffer_io(params.binding(), BufferIOAttr::ReadOnly);
    for (binding, window) in &dispatch.windows {
        let io = match (binding.kind, window.operand) {
            (BindingKind::Uniform | BindingKind::Read, _)
            | (
                _,
                Operand::StudentLogits
                | Operand::TeacherLogits
                | Operand::TeacherIds
                | Operand::Labels
                | Operand::SoftLabels
                | Operand::RowWeights
                | Operand::ClassWeights,
            ) => BufferIOAttr::ReadOnly,
            _ => BufferIOAttr::ReadWrite,
        };
        arguments =
            arguments.with_buffer_io(bound(handle_of(window.operand), window).binding(), io);
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
