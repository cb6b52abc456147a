//! The memory of a chunk.

use std::sync::Mutex;

use super::batch::LinearOutputs;
use super::chunks::Shape;
use super::products::Segments;
use crate::cpu::{Cpu, zeros};
use crate::{Result, RowMetrics, RowResult};

/// Memory for one chunk. A call uses the first elements of each list.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// `[chunk_rows, hidden]`
    pub hidden_states: Vec<f32>,
    /// `[chunk_rows, teacher_hidden]`
    pub teacher_hidden_states: Vec<f32>,
    /// `[chunk_rows, classes]`: the student's logits, then their gradient.
    pub student: Vec<f32>,
    /// `[chunk_rows, teacher_columns]`
    pub teacher: Vec<f32>,
    /// `[segments, chunk_rows, hidden]`
    pub grad_hidden_states: Vec<f32>,
    pub results: Vec<RowResult>,
    pub metrics: Vec<RowMetrics>,
    /// For each thread the logits of the rows that it takes at a time, while their gradient overwrites them.
    pub spare: Mutex<Vec<Vec<f32>>>,
}

/// Gives a list at least `n` elements. What it held is lost if it grows.
fn grow<T: bytemuck::Zeroable>(list: &mut Vec<T>, n: usize) -> Result<()> {
    if list.len() < n {
        // First, so that both are never there.
        *list = Vec::new();
        *list = zeros(n)?;
    }
    Ok(())
}

impl Memory {
    /// Makes room for a chunk.
    pub fn fit(
        &mut self,
        rows: usize,
        shape: &Shape,
        threads: usize,
        outputs: &LinearOutputs<'_>,
    ) -> Result<()> {
        let if_wanted = |wanted: bool, n: usize| if wanted { n } else { 0 };
        let segments = Segments::of(shape.classes, shape.hidden).count;
        let parts = if_wanted(
            outputs.grad_hidden_states.is_some(),
            segments * rows * shape.hidden,
        );
        let spare = Cpu::rows_at_a_time(rows, shape.classes).min(rows) * shape.classes;
        let spare = if_wanted(outputs.have_gradient(), spare);
        grow(&mut self.hidden_states, rows * shape.hidden)?;
        grow(&mut self.teacher_hidden_states, rows * shape.teacher_hidden)?;
        grow(&mut self.student, rows * shape.classes)?;
        grow(&mut self.teacher, rows * shape.teacher_columns)?;
        grow(&mut self.grad_hidden_states, parts)?;
        grow(&mut self.results, rows)?;
        grow(
            &mut self.metrics,
            if_wanted(outputs.metrics.is_some(), rows),
        )?;
        let all = self.spare.get_mut();
        let all = all.unwrap_or_else(std::sync::PoisonError::into_inner);
        all.resize_with(threads.max(all.len()), Vec::new);
        all.iter_mut().try_for_each(|own| grow(own, spare))
    }
}
