//! Finds operands that share memory, from their places and a host's answer to which buffers are the same.

use std::ops::Range;

use super::dispatch::Dispatch;
use super::lists::{List, Lists, ROW_REPORT_BYTES, ROW_RESULT_BYTES, SUMMARY_BYTES, ShardStep};
use super::operand::Operand;
use super::problem::{Matrix, Problem};
use crate::shader::BindingKind;
use crate::{Error, Result};

/// An operand of the caller and its bytes in its buffer.
struct Region {
    operand: Operand,
    bytes: Range<u64>,
}

impl Region {
    fn list(operand: Operand, list: &List, bytes: u64) -> Self {
        Self {
            operand,
            bytes: list.offset..list.offset.saturating_add(bytes),
        }
    }

    fn meets(&self, other: &Self) -> bool {
        self.bytes.start < other.bytes.end && other.bytes.start < self.bytes.end
    }
}

impl Problem {
    /// The problem with [`shared_buffers`](Self::shared_buffers) and [`in_place`](Self::in_place) as the caller's buffers have it.
    /// `same_buffer` says whether two operands of the caller lie in the same buffer.
    ///
    /// # Errors
    /// [`Error::BufferOverlap`] for an output that shares bytes with an input or another output. Only the gradient may lie over the
    /// student's logits, with the same offset, stride and storage.
    pub fn in_buffers(
        self,
        lists: &Lists,
        same_buffer: impl Fn(Operand, Operand) -> bool,
    ) -> Result<Self> {
        let (mut inputs, outputs) = self.regions(lists);
        let in_place = self.gradient == Some(self.student)
            && same_buffer(Operand::StudentLogits, Operand::Gradient);
        if in_place {
            inputs.retain(|input| input.operand != Operand::StudentLogits);
        }
        let mut shared_buffers = false;
        for (i, output) in outputs.iter().enumerate() {
            for other in inputs.iter().chain(&outputs[i + 1..]) {
                if output.meets(other) && same_buffer(output.operand, other.operand) {
                    return Err(Error::BufferOverlap {
                        first: output.operand.name(),
                        second: other.operand.name(),
                        why: "only the gradient may overlap the student's logits, with the same offset, stride and storage",
                    });
                }
            }
            let shares = |input: &Region| same_buffer(input.operand, output.operand);
            shared_buffers |= inputs.iter().any(shares);
        }
        Ok(Self {
            shared_buffers,
            in_place,
            ..self
        })
    }

    /// The caller's inputs and outputs.
    fn regions(&self, lists: &Lists) -> (Vec<Region>, Vec<Region>) {
        let rows = self.rows as u64;
        let matrix = |operand, m: &Matrix, classes| Region {
            operand,
            bytes: m.offset..m.end(self.rows, classes),
        };
        let list = |operand, list: &Option<List>, bytes| {
            list.as_ref().map(|l| Region::list(operand, l, bytes))
        };
        let ids = 4 * rows * self.teacher_classes as u64;
        let weights = 4 * self.classes as u64;
        let labels = |y| matrix(Operand::SoftLabels, y, self.classes);
        let gradient = |g| matrix(Operand::Gradient, g, self.classes);
        let (results, reports) = (ROW_RESULT_BYTES * rows, ROW_REPORT_BYTES * rows);
        let mut inputs = vec![
            Some(matrix(Operand::StudentLogits, &self.student, self.classes)),
            Some(matrix(
                Operand::TeacherLogits,
                &self.teacher,
                self.teacher_classes,
            )),
            Some(Region::list(
                Operand::Labels,
                &lists.labels,
                lists.label_type.bytes() * rows,
            )),
            list(Operand::TeacherIds, &lists.teacher_ids, ids),
            self.soft_labels.as_ref().map(labels),
            list(Operand::RowWeights, &lists.row_weights, 4 * rows),
            list(Operand::ClassWeights, &lists.class_weights, weights),
        ];
        let mut outputs = vec![
            self.gradient.as_ref().map(gradient),
            list(Operand::RowResults, &lists.row_results, results),
            list(Operand::RowMetrics, &lists.row_metrics, reports),
            list(Operand::Summary, &lists.summary, SUMMARY_BYTES),
        ];
        if let Some(shard) = &lists.shard {
            let [stats, sums] = shard.bytes(self.rows);
            let stats = Region::list(Operand::SegmentStats, &shard.row_stats, stats);
            let sums = list(Operand::SweepSums, &shard.sweep_sums, sums);
            match shard.step {
                ShardStep::Observe => outputs.push(Some(stats)),
                ShardStep::Sweep => {
                    inputs.push(Some(stats));
                    outputs.push(sums);
                }
                ShardStep::Apply => inputs.extend([Some(stats), sums]),
            }
        }
        let there = |all: Vec<Option<Region>>| all.into_iter().flatten().collect();
        (there(inputs), there(outputs))
    }
}

/// Refuses dispatches in which two bindings overlap and one of them is written, as browsers refuse them. `same_buffer` says whether two
/// operands lie in the same buffer; each operand of the workspace has its own.
///
/// # Errors
/// [`Error::BufferOverlap`] with the operands of the two bindings.
pub fn check_bindings(
    dispatches: &[Dispatch],
    same_buffer: impl Fn(Operand, Operand) -> bool,
) -> Result<()> {
    let overlap = |dispatch: &Dispatch| {
        let windows = &dispatch.windows;
        windows
            .iter()
            .enumerate()
            .find_map(|(i, (binding, window))| {
                let others = windows[..i].iter();
                let mut clashing = others.filter(|(other, earlier)| {
                    [binding.kind, other.kind].contains(&BindingKind::ReadWrite)
                        && window.offset < earlier.offset + earlier.bytes
                        && earlier.offset < window.offset + window.bytes
                        && same_buffer(window.operand, earlier.operand)
                });
                let (_, earlier) = clashing.next()?;
                Some((earlier.operand.name(), window.operand.name()))
            })
    };
    match dispatches.iter().find_map(overlap) {
        None => Ok(()),
        Some((first, second)) => Err(Error::BufferOverlap {
            first,
            second,
            why: "browsers refuse a second binding of bytes that a kernel writes, and bindings start at multiples of 256 bytes; use a buffer for each",
        }),
    }
}
