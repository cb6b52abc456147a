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
use wgpu_distill::plan::{Chunk, Layout, Limits, Matrix, Plan, PlanKind, Problem};
use wgpu_distill::shader::{BindingKind, Dialect, Kernel, Params, Variant, assemble};
use wgpu_distill::{Config, Decision, RowResult, RowStats, Storage};

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

/// The plan of this path. Rows in one piece: what cuts few long rows into several is left to the path that runs the crate's own pipelines.
pub(crate) fn plan(config: &Config, problem: &Problem, limits: &Limits) -> Result<Plan> {
    let layout = Layout {
        pieces: 1,
        ..Layout::for_shape(problem.rows, problem.classes, limits)
    };
    Ok(Plan::with_layout(config, problem, limits, &layout)?)
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
    };
    let plan = plan(&task.config, &problem, &limits)?;
    Recorder::new(&work, task, &plan, &limits).launch_all();
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

/// Part of a buffer that starts where a binding may, and the elements from there to the first one meant.
struct Window {
    handle: Handle,
    elements: u32,
}

/// Turns a plan into launches.
struct Recorder<'a> {
    work: &'a Work,
    plan: &'a Plan,
    limits: &'a Limits,
    params: Params,
    partials: Handle,
    row_stats: Handle,
    decisions: Handle,
    valid_rows: Handle,
    observed: Handle,
}

impl<'a> Recorder<'a> {
    fn new(work: &'a Work, task: &Task, plan: &'a Plan, limits: &'a Limits) -> Self {
        let client = &work.student.client;
        let (student, teacher) = (matrix(&work.student), matrix(&work.teacher));
        let classes = work.student.meta.shape()[1];
        let params = Params {
            classes: classes as u32,
            teacher_classes: classes.min(work.teacher.meta.shape()[1]) as u32,
            student_stride: student.row_stride as u32,
            teacher_stride: teacher.row_stride as u32,
            grad_stride: classes as u32,
            count_labels: plan.count_labels,
            write_results: 1,
            ..Params::of(&task.config, task.progress)
        };
        let two_phase = plan.kind == PlanKind::TwoPhase;
        let of = |rows: usize, size: usize| if two_phase { rows * size } else { 0 }.max(64);
        let rows = work.student.meta.shape()[0];
        let longest = plan.chunks.iter().map(|c| c.rows.len()).max();
        let row_stats = of(rows, size_of::<RowStats>());
        let decisions = of(longest.unwrap_or(0), size_of::<Decision>());
        let whole = usize::try_from(plan.workspace_bytes()).unwrap_or(usize::MAX);
        Self {
            partials: client.empty(whole.saturating_sub(row_stats + decisions)),
            row_stats: client.empty(row_stats),
            decisions: client.empty(decisions),
            valid_rows: client.create_from_slice(&[0; 64]),
            observed: client.empty(64),
            work,
            plan,
            limits,
            params,
        }
    }

    fn launch_all(&self) {
        let chunks = &self.plan.chunks;
        if self.plan.counts_first {
            for chunk in chunks {
                self.launch(Kernel::ValidRows, chunk, 0, chunk.row_workgroups);
            }
        }
        let mut partials = 0;
        if self.plan.kind == PlanKind::TwoPhase {
            for chunk in chunks {
                self.launch(Kernel::RowStats, chunk, partials, chunk.workgroups);
                partials += chunk.workgroups;
            }
            self.summary(partials, &self.observed);
            partials = 0;
            for chunk in chunks {
                self.launch(Kernel::Select, chunk, partials, chunk.row_workgroups);
                partials += chunk.row_workgroups;
                // The decisions of one chunk at a time are kept.
                if self.work.gradient.is_some() {
                    self.launch(Kernel::WeightedCrossEntropy, chunk, 0, chunk.workgroups);
                }
            }
        } else {
            for chunk in chunks {
                self.launch(Kernel::Distill, chunk, partials, chunk.workgroups);
                partials += chunk.workgroups;
            }
        }
        self.summary(partials, &self.work.summary.handle);
    }

    fn summary(&self, partials: u32, target: &Handle) {
        let params = Params {
            partials,
            ..self.params
        };
        let buffers = [self.partials.clone(), target.clone()];
        self.dispatch(Kernel::Summary, params, buffers.into(), 1);
    }

    /// One kernel on one chunk, its bindings in the order of their numbers.
    fn launch(&self, kernel: Kernel, chunk: &Chunk, partial_offset: u32, workgroups: u32) {
        let mut params = Params {
            rows: chunk.rows.len() as u32,
            workgroups,
            partial_offset,
            ..self.params
        };
        let variant = self.plan.variant_of(kernel);
        let mut buffers = Vec::new();
        for binding in kernel.bindings(&variant) {
            buffers.push(match binding.name {
                "params" => continue,
                "student_logits" => {
                    self.rows(&self.work.student, chunk, &mut params.student_offset)
                }
                "teacher_logits" => {
                    self.rows(&self.work.teacher, chunk, &mut params.teacher_offset)
                }
                "grad_student_logits" => {
                    let gradient = self.work.gradient.as_ref().expect("the plan has one");
                    self.rows(gradient, chunk, &mut params.grad_offset)
                }
                "labels" => {
                    self.items(&self.work.labels.handle, 4, chunk, &mut params.label_offset)
                }
                "row_results" => self.items(
                    &self.work.rows.handle,
                    size_of::<RowResult>(),
                    chunk,
                    &mut params.result_offset,
                ),
                "row_stats" => self.items(
                    &self.row_stats,
                    size_of::<RowStats>(),
                    chunk,
                    &mut params.stats_offset,
                ),
                "partials" => self.partials.clone(),
                "valid_rows" => self.valid_rows.clone(),
                "observed" => self.observed.clone(),
                "decisions" => self.decisions.clone(),
                other => unreachable!("no kernel of a plan binds `{other}`"),
            });
        }
        self.dispatch(kernel, params, buffers, workgroups);
    }

    fn rows(&self, tensor: &CubeTensor, chunk: &Chunk, offset: &mut u32) -> Handle {
        let m = matrix(tensor);
        let element = m.storage.bytes() as u64;
        let stride = m.row_stride as u64 * element;
        let start = chunk.rows.start as u64 * stride;
        let classes = tensor.meta.shape()[1] as u64;
        let end = (chunk.rows.end as u64 - 1) * stride + classes * element;
        let window = self.window(&tensor.handle, start, end, element);
        *offset = window.elements;
        window.handle
    }

    fn items(&self, handle: &Handle, size: usize, chunk: &Chunk, offset: &mut u32) -> Handle {
        let size = size as u64;
        let (start, end) = (chunk.rows.start as u64, chunk.rows.end as u64);
        let window = self.window(handle, start * size, end * size, size);
        *offset = window.elements;
        window.handle
    }

    /// Bytes `start` to `end` of what a handle means, from the alignment before to the 16 bytes after.
    fn window(&self, handle: &Handle, start: u64, end: u64, element: u64) -> Window {
        let aligned = start / self.limits.offset_alignment * self.limits.offset_alignment;
        let used = handle.size_in_used();
        let end = end.next_multiple_of(16).min(used);
        let handle = handle.clone().offset_start(aligned).offset_end(used - end);
        Window {
            handle,
            elements: ((start - aligned) / element) as u32,
        }
    }

    fn dispatch(&self, kernel: Kernel, params: Params, buffers: Vec<Handle>, workgroups: u32) {
        let client = &self.work.student.client;
        let variant = self.plan.variant_of(kernel);
        let params = client.create_from_slice(bytemuck::bytes_of(&params));
        let bindings = kernel.bindings(&variant);
        let handles = std::iter::once(params).chain(buffers);
        let mut arguments = KernelArguments::new();
        for (binding, handle) in bindings.iter().zip(handles) {
            let io = match (binding.kind, binding.name) {
                (BindingKind::Uniform | BindingKind::Read, _)
                | (_, "student_logits" | "teacher_logits" | "labels") => BufferIOAttr::ReadOnly,
                _ => BufferIOAttr::ReadWrite,
            };
            arguments = arguments.with_buffer_io(handle.binding(), io);
        }
        let shader = Shader { kernel, variant };
        client.launch(
            Box::new(shader),
            CubeCount::Static(workgroups, 1, 1),
            arguments,
        );
    }
}
