//! A case of the table in buffers with offsets, strides and bytes that nothing may write.

use std::ops::Range;

use wgpu_distill::half::{bf16, f16};
use wgpu_distill::plan::{
    Dispatch, LabelType, Limits, List, Lists, Matrix, Operand, Plan, Problem,
};
use wgpu_distill::{RowMetrics, RowReport, RowResult, Storage, Summary, bytemuck, reference};

use crate::cases::Case;
use crate::cases::compare::{self, Outcome, before};
use crate::cases::inputs::{Stored, spread};

/// Bytes that no kernel writes: a NaN with a payload, as f32 and as two 16-bit numbers.
const POISON: [u8; 4] = [0xa5, 0x7f, 0xa5, 0x7f];

pub fn poison(bytes: usize) -> Vec<u8> {
    POISON.iter().copied().cycle().take(bytes).collect()
}

/// The initial contents of each buffer, as whole 32-bit words.
pub type Contents = Vec<(Operand, Vec<u8>)>;

/// The caller's buffers of a case.
#[derive(Clone)]
pub struct CaseBuffers {
    pub case: Case,
    pub problem: Problem,
    pub lists: Lists,
    /// In place, the gradient's buffer stands for the student's too.
    pub buffers: Contents,
}

/// The offset of the rows' results in their buffer.
const ROWS_AT: usize = 128;
const SUMMARY_AT: usize = 256;

/// Bytes of a row's result, with metrics if the case has them.
pub fn bytes_per_row(case: &Case) -> usize {
    match case.metrics {
        true => size_of::<RowReport>(),
        false => size_of::<RowResult>(),
    }
}

/// Results of rows, and their metrics if the case has them.
pub fn results_of_rows(case: &Case, bytes: &[u8]) -> (Vec<RowResult>, Vec<RowMetrics>) {
    if !case.metrics {
        return (bytemuck::pod_collect_to_vec(bytes), Vec::new());
    }
    let reports = bytemuck::pod_collect_to_vec::<u8, RowReport>(bytes).into_iter();
    reports
        .map(|report| (report.result, report.metrics))
        .unzip()
}

/// The operand with the rows' results.
fn rows_operand(case: &Case) -> Operand {
    match case.metrics {
        true => Operand::RowMetrics,
        false => Operand::RowResults,
    }
}

impl CaseBuffers {
    pub fn new(case: Case) -> Self {
        let [student, teacher] = case.logits();
        let strides = case.strides();
        let stored = |values: &[f32], which: usize, classes: usize| {
            let spread_out = spread(values, classes, strides[which], case.offsets[which]);
            let stored = Stored::round(&spread_out, case.storage[which]);
            words(stored.values().as_bytes().to_vec())
        };
        let student = stored(&student, 0, case.classes);
        let teacher = stored(&teacher, 1, case.teacher_classes);
        let values: Vec<f32> = (0..case.rows * case.classes).map(before).collect();
        let gradient = match case.config.grad_write {
            _ if case.in_place => student.clone(),
            wgpu_distill::GradWrite::Accumulate => stored(&values, 2, case.classes),
            _ => {
                let bytes = stored(&values, 2, case.classes).len();
                poison(bytes)
            }
        };
        // Labels start at an offset that is not aligned for a binding.
        let labels: Vec<i32> = [i32::MAX; 3].into_iter().chain(case.labels()).collect();
        let labels = bytemuck::cast_slice(&labels).to_vec();
        let soft_labels = case.soft_labels().zip(case.soft_labels.storage());
        let soft_labels = soft_labels.map(|(values, storage)| {
            let (stride, offset) = (case.classes + case.gaps[1], case.offsets[1]);
            let spread_out = spread(&values, case.classes, stride, offset);
            let bytes = Stored::round(&spread_out, storage);
            let bytes = words(bytes.values().as_bytes().to_vec());
            let matrix = Matrix {
                storage,
                row_stride: stride,
                offset: (offset * storage.bytes()) as u64,
                buffer_bytes: bytes.len() as u64,
            };
            (matrix, bytes)
        });
        let weights = case.row_weights().map(|weights| {
            let bytes = bytemuck::cast_slice(&weights);
            [&POISON[..], bytes].concat()
        });
        let ids = case.teacher_ids().map(|ids| {
            let bytes = bytemuck::cast_slice(&ids);
            [&POISON[..], bytes].concat()
        });
        let class_weights = case.class_weights().map(|weights| {
            let bytes = bytemuck::cast_slice(&weights);
            [&POISON[..], bytes].concat()
        });
        let results = poison(ROWS_AT + bytes_per_row(&case) * case.rows + 64);
        let summary = poison(SUMMARY_AT + 96);

        let matrix = |bytes: &[u8], which: usize| Matrix {
            storage: case.storage[which],
            row_stride: strides[which],
            offset: (case.offsets[which] * case.storage[which].bytes()) as u64,
            buffer_bytes: bytes.len() as u64,
        };
        let of_gradient = match case.in_place {
            true => matrix(&student, 0),
            false => matrix(&gradient, 2),
        };
        let problem = Problem {
            in_place: case.in_place,
            soft_labels: soft_labels.as_ref().map(|(matrix, _)| *matrix),
            row_weights: weights.is_some(),
            teacher_list: ids.is_some(),
            class_weights: class_weights.is_some(),
            metrics: case.metrics,
            ..Problem::new(
                case.rows,
                (matrix(&student, 0), case.classes),
                (matrix(&teacher, 1), case.teacher_classes),
                Some(of_gradient),
            )
        };
        let list = |offset: usize, bytes: &[u8]| List {
            offset: offset as u64,
            buffer_bytes: bytes.len() as u64,
        };
        let lists = Lists {
            labels: list(12, &labels),
            label_type: LabelType::I32,
            row_results: (!case.metrics).then(|| list(ROWS_AT, &results)),
            summary: Some(list(SUMMARY_AT, &summary)),
            shard: None,
            row_weights: weights.as_deref().map(|bytes| list(4, bytes)),
            teacher_ids: ids.as_deref().map(|bytes| list(4, bytes)),
            class_weights: class_weights.as_deref().map(|bytes| list(4, bytes)),
            row_metrics: case.metrics.then(|| list(ROWS_AT, &results)),
        };
        let buffers: Contents = [
            (Operand::StudentLogits, student),
            (Operand::TeacherLogits, teacher),
            (Operand::Labels, labels),
            (Operand::Gradient, gradient),
            (rows_operand(&case), results),
            (Operand::Summary, summary),
        ]
        .into_iter()
        .chain(soft_labels.map(|(_, bytes)| (Operand::SoftLabels, bytes)))
        .chain(weights.map(|bytes| (Operand::RowWeights, bytes)))
        .chain(ids.map(|bytes| (Operand::TeacherIds, bytes)))
        .chain(class_weights.map(|bytes| (Operand::ClassWeights, bytes)))
        .collect();
        Self {
            case,
            problem,
            lists,
            buffers,
        }
    }

    /// The plan for a device, its dispatches, and all buffers: the caller's, then the workspace, with any contents.
    // The npm package makes its own.
    #[allow(dead_code)]
    pub fn planned(&self, limits: &Limits) -> (Plan, Vec<Dispatch>, Contents) {
        let config = &self.case.config;
        let plan = Plan::new(config, &self.problem, limits).expect("cases fit the limits");
        let dispatches = plan.dispatches(config, self.case.progress, &self.lists);
        let workspace = plan.workspace().into_iter();
        let workspace = workspace.map(|(operand, bytes)| (operand, poison(bytes as usize)));
        let buffers = self.buffers.iter().cloned().chain(workspace).collect();
        (plan, dispatches.expect("cases are valid"), buffers)
    }

    /// The buffers that are read back, in this order.
    pub fn read(&self) -> [Operand; 3] {
        [
            Operand::Summary,
            rows_operand(&self.case),
            Operand::Gradient,
        ]
    }

    fn bytes_of(&self, operand: Operand) -> &[u8] {
        let found = self.buffers.iter().find(|(other, _)| *other == operand);
        &found.expect("every case has it").1
    }

    /// Compares the results with the reference, and all bytes outside of the outputs with their initial values.
    pub fn check(&self, mut read: &[u8]) -> Result<(), String> {
        let case = &self.case;
        let host = case.host();
        let want = reference::distill(&case.config, case.progress, &host.batch());
        let want = want.map_err(|e| e.to_string())?;
        let mut parts = Vec::new();
        for operand in self.read() {
            let before = self.bytes_of(operand);
            let (part, rest) = read
                .split_at_checked(before.len())
                .ok_or("too few bytes came back")?;
            read = rest;
            let written = self.written(operand);
            let mut next = 0;
            for (start, end) in written.iter().map(|r| (r.start, r.end)) {
                if part[next..start] != before[next..start] {
                    return Err(format!("{}: bytes beside it were written", operand.name()));
                }
                next = end;
            }
            if part[next..] != before[next..] {
                return Err(format!("{}: bytes behind it were written", operand.name()));
            }
            parts.push(written.into_iter().flat_map(|r| part[r].to_vec()).collect());
        }
        let [summary, rows, gradient]: [Vec<u8>; 3] = parts.try_into().expect("three were read");
        let gradient = match case.storage[2] {
            Storage::F32 => unpoisoned(&gradient, |x: f32| x)?,
            Storage::F16 => unpoisoned(&gradient, |x: f16| x.to_f32())?,
            Storage::Bf16 => unpoisoned(&gradient, |x: bf16| x.to_f32())?,
        };
        let (rows, metrics) = results_of_rows(case, &rows);
        let outcome = Outcome {
            summary: bytemuck::pod_read_unaligned::<Summary>(&summary),
            rows,
            gradient,
            metrics,
        };
        compare::check(case, &want, &outcome)
    }

    /// The bytes that must be written.
    fn written(&self, operand: Operand) -> Vec<Range<usize>> {
        let (case, m) = (
            &self.case,
            &self.problem.gradient.expect("every case has one"),
        );
        let size = m.storage.bytes();
        // Offset of the first row in bytes, and the row stride.
        let (rows, first, bytes, stride) = match operand {
            Operand::Summary => (1, SUMMARY_AT, size_of::<Summary>(), 0),
            Operand::RowResults | Operand::RowMetrics => {
                let bytes = bytes_per_row(case);
                (case.rows, ROWS_AT, bytes, bytes)
            }
            _ => (
                case.rows,
                m.offset as usize,
                case.classes * size,
                m.row_stride * size,
            ),
        };
        let start = |row| first + row * stride;
        (0..rows)
            .map(|row| start(row)..start(row) + bytes)
            .collect()
    }
}

/// Pads to whole 32-bit words and a few more, since kernels read vectors of four.
fn words(mut bytes: Vec<u8>) -> Vec<u8> {
    let size = (bytes.len() + 16).next_multiple_of(4);
    let more = poison(size - bytes.len());
    bytes.extend(more);
    bytes
}

/// The numbers as f32. Fails if one is still poison.
fn unpoisoned<T: bytemuck::Pod>(bytes: &[u8], wide: fn(T) -> f32) -> Result<Vec<f32>, String> {
    let left = |x: &T| bytemuck::bytes_of(x) == &POISON[..size_of::<T>()];
    let values = bytemuck::pod_collect_to_vec::<u8, T>(bytes);
    match values.iter().position(left) {
        Some(i) => Err(format!("element {i} of the gradient was not written")),
        None => Ok(values.into_iter().map(wide).collect()),
    }
}
