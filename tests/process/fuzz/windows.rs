//! The buffers of operands, and the rows in the windows that dispatches bind.

use wgpu_distill::plan::{Dispatch, List, Lists, Matrix, Operand, Problem, ShardStep, Window};

/// The size of an operand's buffer.
pub fn buffer_bytes(
    operand: Operand,
    workspace: &[(Operand, u64)],
    problem: &Problem,
    lists: &Lists,
) -> u64 {
    let list = |list: Option<List>| list.map_or(0, |l| l.buffer_bytes);
    let of_shards = match (operand, lists.shard) {
        (Operand::SegmentStats, Some(shard)) => Some(shard.row_stats),
        (Operand::SweepSums, Some(shard)) => shard.sweep_sums,
        _ => None,
    };
    if of_shards.is_some() {
        return list(of_shards);
    }
    match operand {
        Operand::StudentLogits => problem.student.buffer_bytes,
        Operand::TeacherLogits => problem.teacher.buffer_bytes,
        Operand::Gradient => problem.gradient.map_or(0, |g| g.buffer_bytes),
        Operand::SoftLabels => problem.soft_labels.map_or(0, |y| y.buffer_bytes),
        Operand::Labels => lists.labels.buffer_bytes,
        Operand::RowResults => list(lists.row_results),
        Operand::RowWeights => list(lists.row_weights),
        Operand::TeacherIds => list(lists.teacher_ids),
        Operand::ClassWeights => list(lists.class_weights),
        Operand::RowMetrics => list(lists.row_metrics),
        Operand::Summary => list(lists.summary),
        own => {
            let found = workspace.iter().find(|(other, _)| *other == own);
            found.map_or(0, |(_, bytes)| *bytes)
        }
    }
}

/// The rows of a window that a kernel's parameters select. `None` if the buffer is bound whole.
pub fn rows_of(
    dispatch: &Dispatch,
    window: &Window,
    problem: &Problem,
    lists: &Lists,
) -> Result<Option<(u64, u64)>, String> {
    let p = &dispatch.params;
    let of = |m: &Matrix, classes: usize| {
        let element = m.storage.bytes() as u64;
        let (row, stride) = (classes as u64 * element, m.row_stride as u64 * element);
        (m.offset, stride, row, element)
    };
    let list = |l: List, item: u64| (l.offset, item, item, item);
    let ((origin, stride, row, element), first) = match window.operand {
        Operand::StudentLogits => (of(&problem.student, problem.classes), p.student_offset),
        Operand::TeacherLogits => (
            of(&problem.teacher, problem.teacher_classes),
            p.teacher_offset,
        ),
        Operand::Gradient => match &problem.gradient {
            Some(gradient) => (of(gradient, problem.classes), p.grad_offset),
            None => return Err("a gradient that was not requested".to_owned()),
        },
        Operand::SoftLabels => match &problem.soft_labels {
            Some(soft_labels) => (of(soft_labels, problem.classes), p.soft_label_offset),
            None => return Err("soft labels that no row has".to_owned()),
        },
        Operand::Labels => (list(lists.labels, lists.label_type.bytes()), p.label_offset),
        Operand::RowMetrics => match lists.row_metrics {
            Some(metrics) => (list(metrics, 64), p.result_offset),
            None => return Err("metrics that were not requested".to_owned()),
        },
        Operand::RowWeights => match lists.row_weights {
            Some(weights) => (list(weights, 4), p.weight_offset),
            None => return Err("weights that no row has".to_owned()),
        },
        Operand::RowResults => match lists.row_results {
            Some(results) => (list(results, 16), p.result_offset),
            None => return Err("results that were not requested".to_owned()),
        },
        Operand::SegmentStats | Operand::SweepSums => {
            let records = records_of(dispatch, window, lists)?;
            return Ok(records.map(|from| (from, from + u64::from(p.rows))));
        }
        _ => return Ok(None),
    };
    let start = window.offset + u64::from(first) * element;
    let from = start
        .checked_sub(origin)
        .filter(|at| at.is_multiple_of(stride));
    let from = from.ok_or("a window does not start at a row")? / stride;
    let last = start + (u64::from(p.rows) - 1) * stride + row;
    if last > window.offset + window.bytes {
        return Err("a row beyond its window".to_owned());
    }
    // The kernels use 32-bit indices.
    if (last - window.offset) / element > u64::from(u32::MAX) {
        return Err("an index beyond 32 bits".to_owned());
    }
    Ok(Some((from, from + u64::from(p.rows))))
}

/// The first row whose statistics a step on a slice reads or writes, all of whose records must be in the window.
fn records_of(dispatch: &Dispatch, window: &Window, lists: &Lists) -> Result<Option<u64>, String> {
    let p = &dispatch.params;
    let Some(shard) = lists.shard else {
        return Ok(None);
    };
    let (bytes, writes) = match (window.operand, shard.sweep_sums) {
        (Operand::SegmentStats, _) => (224, shard.step == ShardStep::Observe),
        (_, Some(_)) => (16, shard.step == ShardStep::Sweep),
        (_, None) => return Ok(None),
    };
    let before = match writes {
        true => 0,
        false => u64::from(shard.shards - 1) * u64::from(p.record_stride),
    };
    let end = u64::from(p.record_offset) + before + u64::from(p.rows);
    match end * bytes <= window.bytes {
        true => Ok(Some(p.record_offset.into())),
        false => Err("a record beyond its window".to_owned()),
    }
}
