//! Runs a case on buffers with offsets, strides, poison, and canaries around all outputs.

// Each test binary compiles this module and uses a part of it.
#![allow(dead_code)]

#[path = "../adapter/mod.rs"]
pub mod adapter;
pub mod poison;
#[path = "../report/mod.rs"]
pub mod report;
mod shards;

use std::ops::Range;

pub use adapter::gpu;
use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLabels, GpuLogits, GpuOutputs, GpuSlice};
use wgpu_distill::plan::{LabelType, Limits, Matrix, Plan, PlanKind, Problem, Tiling};
use wgpu_distill::{RowReport, Storage, Summary, wgpu};

use crate::cases::Case;
use crate::cases::compare::Outcome;
use crate::cases::inputs::{POISON, Stored, spread};
use poison::{gather, initial_gradient, poisoned, untouched, written};

/// The requested outputs. The buffers of the others exist and must stay unchanged.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub summary: bool,
    pub rows: bool,
    pub gradient: bool,
}

impl Wanted {
    pub const ALL: Self = Self {
        summary: true,
        rows: true,
        gradient: true,
    };
}

/// The source of the plans.
enum Plans {
    Own,
    Of(Limits),
    With(Tiling, PlanKind),
    /// The columns of several devices.
    InShards(Vec<Range<usize>>),
}

pub struct Bench {
    gpu: Gpu,
    plans: Plans,
}

impl Bench {
    pub fn new(gpu: Gpu) -> Self {
        Self {
            gpu,
            plans: Plans::Own,
        }
    }

    /// Uses plans for hardware with default limits and the device's subgroups, with chunks of a few rows.
    pub fn with_hardware_plans(gpu: Gpu) -> Self {
        let limits = Limits {
            subgroup: gpu.limits().subgroup,
            ..Limits::DEFAULT
        };
        let plans = Plans::Of(limits);
        Self { gpu, plans }
    }

    /// Uses plans with this tiling, which must have this kind.
    pub fn with_tiling(gpu: Gpu, tiling: Tiling, kind: PlanKind) -> Self {
        let plans = Plans::With(tiling, kind);
        Self { gpu, plans }
    }

    /// Gives these columns to a device each.
    pub fn in_shards(gpu: Gpu, cuts: Vec<Range<usize>>) -> Self {
        let plans = Plans::InShards(cuts);
        Self { gpu, plans }
    }

    pub fn describe(&self) -> String {
        let plans = match self.plans {
            Plans::InShards(_) => ", in shards",
            Plans::Own => "",
            Plans::Of(Limits { subgroup: None, .. }) => ", plans for hardware",
            Plans::Of(_) => ", plans for hardware with subgroups",
            Plans::With(..) => ", plans of the test",
        };
        format!("buffers, {}{plans}", self.gpu.describe())
    }

    fn buffer(&self, bytes: &[u8]) -> wgpu::Buffer {
        use wgpu::util::DeviceExt;
        self.gpu
            .device()
            .create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: None,
                contents: bytes,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            })
    }

    /// A matrix of a case in a buffer, with poison outside of its elements.
    fn matrix(
        &self,
        values: &[f32],
        classes: usize,
        stride: usize,
        offset: usize,
        storage: Storage,
    ) -> wgpu::Buffer {
        let stored = Stored::round(&spread(values, classes, stride, offset), storage);
        self.buffer(stored.values().as_bytes())
    }

    /// The labels at an offset that is not aligned for a binding. Of 64 bits, those that are no class have a class in their lower words.
    fn labels(&self, case: &Case) -> (wgpu::Buffer, u64) {
        match label_type(case) {
            LabelType::I32 => {
                let labels = [vec![i32::MAX; 3], case.labels()].concat();
                (self.buffer(bytemuck::cast_slice(&labels)), 12)
            }
            LabelType::I64 => {
                let wide = |label| match label {
                    i32::MAX => 1 << 32,
                    i32::MIN => -1 << 32,
                    label => i64::from(label),
                };
                let labels: Vec<i64> = case.labels().into_iter().map(wide).collect();
                let labels = [vec![i64::MAX; 3], labels].concat();
                (self.buffer(bytemuck::cast_slice(&labels)), 24)
            }
        }
    }

    pub fn run(&self, case: &Case) -> Result<Outcome, String> {
        self.run_for(case, Wanted::ALL).map(|(outcome, _)| outcome)
    }

    /// Runs a case with these outputs; the others are empty in the outcome. Returns the plan as well.
    pub fn run_for(&self, case: &Case, wanted: Wanted) -> Result<(Outcome, Plan), String> {
        let [student, teacher] = case.logits();
        let strides = case.strides();
        let [s_storage, t_storage, g_storage] = case.storage;
        let student_buffer = self.matrix(
            &student,
            case.classes,
            strides[0],
            case.offsets[0],
            s_storage,
        );
        let teacher_buffer = self.matrix(
            &teacher,
            case.teacher_classes,
            strides[1],
            case.offsets[1],
            t_storage,
        );
        let (labels_buffer, labels_offset) = self.labels(case);
        let y_stride = case.classes + case.gaps[1];
        let soft_labels = case.soft_labels().zip(case.soft_labels.storage());
        let soft_labels = soft_labels.map(|(values, storage)| {
            let offset = case.offsets[1];
            let buffer = self.matrix(&values, case.classes, y_stride, offset, storage);
            (buffer, storage)
        });
        let weights_buffer = case.row_weights().map(|weights| {
            let spread_out = [&[POISON], weights.as_slice()].concat();
            self.buffer(bytemuck::cast_slice(&spread_out))
        });
        let ids_buffer = case.teacher_ids().map(|ids| {
            let spread_out = [&[i32::MAX], ids.as_slice()].concat();
            self.buffer(bytemuck::cast_slice(&spread_out))
        });
        // Behind an odd number of words.
        let class_weights_buffer = case.class_weights().map(|weights| {
            let spread_out = [&[POISON; 3], weights.as_slice()].concat();
            self.buffer(bytemuck::cast_slice(&spread_out))
        });

        let (g_stride, g_offset) = if case.in_place {
            (strides[0], case.offsets[0])
        } else {
            (strides[2], case.offsets[2])
        };
        let initial = initial_gradient(case, g_stride, g_offset);
        let initial = initial.values().as_bytes().to_vec();
        let own_gradient = self.buffer(&initial);
        let gradient_buffer = if case.in_place {
            &student_buffer
        } else {
            &own_gradient
        };
        // With metrics each row has a `RowReport`.
        let item = if case.metrics { 64 } else { 16 };
        let results_before = poisoned(item * (case.rows + 4));
        let results_buffer = self.buffer(&results_before);
        let summary_before = poisoned(256 + size_of::<Summary>() + 32);
        let summary_buffer = self.buffer(&summary_before);

        let logits = |buffer, offset: usize, storage: Storage, classes, row_stride| GpuLogits {
            buffer,
            offset: (offset * storage.bytes()) as u64,
            storage,
            classes,
            row_stride,
        };
        let batch = GpuBatch {
            rows: case.rows,
            student_logits: logits(
                &student_buffer,
                case.offsets[0],
                s_storage,
                case.classes,
                strides[0],
            ),
            teacher_logits: logits(
                &teacher_buffer,
                case.offsets[1],
                t_storage,
                case.teacher_classes,
                strides[1],
            ),
            teacher_ids: ids_buffer
                .as_ref()
                .map(|buffer| GpuSlice { buffer, offset: 4 }),
            labels: GpuLabels {
                slice: GpuSlice {
                    buffer: &labels_buffer,
                    offset: labels_offset,
                },
                label_type: label_type(case),
            },
            soft_labels: soft_labels.as_ref().map(|(buffer, storage)| {
                logits(buffer, case.offsets[1], *storage, case.classes, y_stride)
            }),
            row_weights: weights_buffer
                .as_ref()
                .map(|buffer| GpuSlice { buffer, offset: 4 }),
            class_weights: class_weights_buffer
                .as_ref()
                .map(|buffer| GpuSlice { buffer, offset: 12 }),
        };
        let gradient = logits(gradient_buffer, g_offset, g_storage, case.classes, g_stride);
        let results = GpuSlice {
            buffer: &results_buffer,
            offset: 2 * item as u64,
        };
        let outputs = GpuOutputs {
            summary: wanted.summary.then_some(GpuSlice {
                buffer: &summary_buffer,
                offset: 256,
            }),
            row_results: (wanted.rows && !case.metrics).then_some(results),
            row_metrics: (wanted.rows && case.metrics).then_some(results),
            gradient: wanted.gradient.then_some(gradient),
        };
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        let (config, progress) = (&case.config, case.progress);
        let plan = match &self.plans {
            Plans::Own | Plans::InShards(_) => self.gpu.plan(config, &batch, &outputs),
            Plans::Of(limits) => Ok(invented_plan(case, &batch, &outputs, *limits)),
            Plans::With(tiling, kind) => {
                let plan = self.gpu.plan_with_tiling(config, &batch, &outputs, tiling);
                assert!(
                    plan.as_ref().is_ok_and(|p| p.kind() == *kind),
                    "{kind:?}: {plan:?}"
                );
                plan
            }
        };
        let plan = plan.map_err(|e| e.to_string())?;
        let encoded = match &self.plans {
            Plans::InShards(cuts) => {
                shards::encode(&self.gpu, &mut encoder, case, (&batch, &outputs), cuts)
            }
            _ => self.gpu.encode_plan(
                &mut encoder,
                &plan,
                config,
                progress,
                &batch,
                &outputs,
                None,
            ),
        };
        encoded.map_err(|e| e.to_string())?;
        let read = |encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer| {
            let staging = self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: buffer.size(),
                usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                mapped_at_creation: false,
            });
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
            staging
        };
        let staged =
            [&summary_buffer, &results_buffer, gradient_buffer].map(|b| read(&mut encoder, b));
        self.gpu.queue().submit([encoder.finish()]);
        for s in &staged {
            s.slice(..).map_async(wgpu::MapMode::Read, |done| {
                done.expect("mapping for reading")
            });
        }
        self.gpu
            .device()
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| e.to_string())?;
        let [summary, results, gradient] =
            staged.map(|s| s.slice(..).get_mapped_range().expect("mapped").to_vec());

        let lengths = [
            size_of::<Summary>() * usize::from(wanted.summary),
            item * case.rows * usize::from(wanted.rows),
        ];
        let [summary_range, rows_range] = [256..256 + lengths[0], 2 * item..2 * item + lengths[1]];
        untouched("summary", &summary, &summary_before, &summary_range)?;
        untouched("row_results", &results, &results_before, &rows_range)?;
        let (summary, rows) = (&summary[summary_range], &results[rows_range]);
        written("summary", summary)?;
        written("row_results", rows)?;
        let surroundings = self.gradient_surroundings(case, &student, &initial);
        let mut outcome = Outcome {
            summary: Summary::default(),
            rows: Vec::new(),
            gradient: Vec::new(),
            metrics: Vec::new(),
        };
        if case.metrics {
            let reports: Vec<RowReport> = bytemuck::pod_collect_to_vec(rows);
            outcome.rows = reports.iter().map(|report| report.result).collect();
            outcome.metrics = reports.iter().map(|report| report.metrics).collect();
        } else {
            outcome.rows = bytemuck::pod_collect_to_vec(rows);
        }
        if wanted.summary {
            outcome.summary = bytemuck::pod_read_unaligned(summary);
        }
        if wanted.gradient {
            outcome.gradient = gather(case, &gradient, &surroundings, g_stride, g_offset)?;
        } else if !gradient.starts_with(&surroundings) {
            return Err("a gradient was written that was not requested".to_owned());
        }
        Ok((outcome, plan))
    }

    /// The bytes before and between the rows of the gradient, which must stay unchanged.
    fn gradient_surroundings(&self, case: &Case, student: &[f32], initial: &[u8]) -> Vec<u8> {
        if !case.in_place {
            return initial.to_vec();
        }
        let strides = case.strides();
        let spread_out = spread(student, case.classes, strides[0], case.offsets[0]);
        Stored::round(&spread_out, case.storage[0])
            .values()
            .as_bytes()
            .to_vec()
    }
}

/// A plan for given limits, with bindings so small that it has several chunks.
fn invented_plan(
    case: &Case,
    batch: &GpuBatch<'_>,
    outputs: &GpuOutputs<'_>,
    limits: Limits,
) -> Plan {
    let matrix = |l: &GpuLogits<'_>| Matrix {
        storage: l.storage,
        row_stride: l.row_stride,
        offset: l.offset,
        buffer_bytes: l.buffer.size(),
    };
    let matrices = [
        Some(batch.student_logits),
        Some(batch.teacher_logits),
        outputs.gradient,
        batch.soft_labels,
    ];
    let widest = matrices
        .into_iter()
        .flatten()
        .map(|l| l.row_stride * l.storage.bytes())
        .max()
        .expect("there are some");
    let problem = Problem {
        in_place: case.in_place && outputs.gradient.is_some(),
        soft_labels: batch.soft_labels.as_ref().map(matrix),
        row_weights: batch.row_weights.is_some(),
        class_weights: batch.class_weights.is_some(),
        teacher_list: batch.teacher_ids.is_some(),
        metrics: outputs.row_metrics.is_some(),
        ..Problem::new(
            case.rows,
            (matrix(&batch.student_logits), case.classes),
            (matrix(&batch.teacher_logits), case.teacher_classes),
            outputs.gradient.as_ref().map(matrix),
        )
    };
    // Room for a few rows, so that small cases have several chunks, and for thousands in cases with many rows.
    let rows = (case.rows / 4).max(3);
    let limits = Limits {
        binding_bytes: ((widest.max(64) * rows) as u64 + 512).min(limits.binding_bytes),
        ..limits
    };
    Plan::new(&case.config, &problem, &limits).expect("the limits leave room for a row")
}

/// Both types occur with every choice of the table.
fn label_type(case: &Case) -> LabelType {
    match case.classes % 2 {
        0 => LabelType::I32,
        _ => LabelType::I64,
    }
}
