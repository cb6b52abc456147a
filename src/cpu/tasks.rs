//! The rows of a call, cut into tasks. The tasks depend on the shape alone, so that results do not depend on the number of threads.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::pool;
use crate::{GradientMut, RowMetrics, RowResult};

/// Elements per task: enough to be worth a thread, few enough to balance the load.
const TASK_ELEMENTS: usize = 1 << 15;

/// A range of rows with its part of the outputs.
pub(super) struct Task<'a> {
    pub rows: Range<usize>,
    pub gradient: Option<GradientMut<'a>>,
    /// One entry for each row, or empty.
    pub results: &'a mut [RowResult],
    /// One entry for each row, or empty.
    pub metrics: &'a mut [RowMetrics],
}

pub(super) fn rows_per_task(rows: usize, classes: usize) -> usize {
    // At most an eighth of the rows, rounded up, so that a few long rows use several threads.
    let by_size = (TASK_ELEMENTS / classes).max(1);
    if rows.saturating_mul(classes) > TASK_ELEMENTS {
        by_size.min(rows.div_ceil(8))
    } else {
        by_size
    }
}

/// Cuts rows and outputs into tasks.
pub(super) fn tasks<'a>(
    rows: usize,
    classes: usize,
    mut gradient: Option<GradientMut<'a>>,
    (mut results, mut metrics): (&'a mut [RowResult], &'a mut [RowMetrics]),
) -> Vec<Task<'a>> {
    let per_task = rows_per_task(rows, classes);
    let mut tasks = Vec::with_capacity(rows.div_ceil(per_task));
    let mut start = 0;
    while start < rows {
        let n = per_task.min(rows - start);
        let mut own_gradient = None;
        if let Some(all) = gradient.take() {
            let (own, rest) = all.split_at_row(n);
            own_gradient = Some(own);
            gradient = Some(rest);
        }
        let (own_results, rest) = results.split_at_mut(n.min(results.len()));
        results = rest;
        let (own_metrics, rest) = metrics.split_at_mut(n.min(metrics.len()));
        metrics = rest;
        tasks.push(Task {
            rows: start..start + n,
            gradient: own_gradient,
            results: own_results,
            metrics: own_metrics,
        });
        start += n;
    }
    tasks
}

/// Runs the tasks on up to `threads` threads. Returns their results in the order of the tasks.
pub(super) fn run<T: Send, R: Send>(
    threads: usize,
    tasks: Vec<T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    if threads <= 1 || tasks.len() <= 1 {
        return tasks.into_iter().map(work).collect();
    }
    // Each slot is locked once.
    let slots: Vec<_> = tasks
        .into_iter()
        .map(|t| Mutex::new((Some(t), None)))
        .collect();
    pool::share(threads, slots.len(), &|i: usize| {
        let mut slot = slots[i].lock().unwrap_or_else(PoisonError::into_inner);
        let task = slot.0.take().expect("each task is taken once");
        slot.1 = Some(work(task));
    });
    let result = |slot: Mutex<(Option<T>, Option<R>)>| {
        let slot = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        slot.1.expect("each task is done")
    };
    slots.into_iter().map(result).collect()
}

/// [`run`], with memory that a task leaves to a later one: each thread makes one of its own.
pub(super) fn run_in<M: Send, T: Send, R: Send>(
    threads: usize,
    tasks: Vec<T>,
    new: impl Fn() -> M + Sync,
    work: impl Fn(&mut M, T) -> R + Sync,
) -> Vec<R> {
    if threads <= 1 || tasks.len() <= 1 || cfg!(target_arch = "wasm32") {
        let mut memory = new();
        return tasks
            .into_iter()
            .map(|task| work(&mut memory, task))
            .collect();
    }
    let left = Mutex::new(Vec::new());
    let left = || left.lock().unwrap_or_else(PoisonError::into_inner);
    run(threads, tasks, |task| {
        let last = left().pop();
        let mut memory = last.unwrap_or_else(&new);
        let result = work(&mut memory, task);
        left().push(memory);
        result
    })
}
