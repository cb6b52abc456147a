//! The loss from hidden states and the weights of the head, without the logits in memory: *fused linear distillation*.
//!
//! The logits of a language model are `hidden_states * weights^T`, and often the largest matrix of a training step. Here rows go in
//! chunks: a product gives the logits of a chunk, the engine overwrites them with their gradient, and two products give the gradients of
//! hidden states and head. Every choice of [`Config`] works, because the engine computes the loss. Rows with `ignore_index` cost nothing.
//!
//! Runs on the CPU path. Hidden states, weights and their gradients are f32; a caller with 16-bit weights converts them. The products are
//! those of the crate `matrixmultiply`, on the threads of this crate. Needs the cargo feature `linear`.
//!
//! ```
//! use wgpu_distill::linear::{FusedLinear, Linear, LinearBatch, LinearOutputs, Teacher};
//! use wgpu_distill::{Config, Progress, presets};
//!
//! # fn main() -> wgpu_distill::Result<()> {
//! // Two rows. The student has hidden states of 2 elements, the teacher of 3; both have 4 classes.
//! let student = Linear::new(&[0.5, -1.0, 2.0, 0.25], &[1.0, 0.0, 0.5, -0.5, 0.0, 1.0, -1.0, 2.0], 2, 4);
//! let weights = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.5, 0.5, 0.5];
//! let teacher = Linear::new(&[2.0, 0.0, 1.0, 0.0, 3.0, -1.0], &weights, 3, 4);
//! let batch = LinearBatch::new(student, Teacher::Linear(teacher), &[0, 1]);
//!
//! let mut grad_hidden_states = [0.0; 2 * 2];
//! let mut grad_weights = [0.0; 4 * 2];
//! let outputs = LinearOutputs {
//!     grad_hidden_states: Some(&mut grad_hidden_states),
//!     grad_weights: Some(&mut grad_weights),
//!     ..LinearOutputs::default()
//! };
//! let loss = FusedLinear::new();
//! let summary = loss.run_into(&Config::default(), Progress::new(30, 100), &batch, outputs)?;
//! println!("loss {}, gradient of the head {grad_weights:?}", summary.loss);
//! # assert!(summary.loss > 0.0 && grad_weights.iter().all(|g| *g != 0.0));
//! # Ok(())
//! # }
//! ```

mod batch;
mod checks;
mod chunks;
mod memory;
mod products;
mod run;

pub use batch::{Linear, LinearBatch, LinearOutputs, Teacher};

use std::sync::{Mutex, PoisonError};

use crate::cpu::Cpu;
use crate::{Config, Progress, Result, Summary};
use chunks::Shape;
use memory::Memory;
use run::Call;

/// The loss from hidden states, on the CPU path.
///
/// It keeps the memory of a chunk for the next call, since new memory costs time. Make one for a training run, and drop it to free the
/// memory. Calls at the same time have memory of their own, and so has a clone.
#[derive(Debug)]
pub struct FusedLinear {
    cpu: Cpu,
    /// None: the default, which depends on the shape.
    memory_budget: Option<usize>,
    /// None while a call has it.
    memory: Mutex<Option<Memory>>,
}

impl FusedLinear {
    /// The least default of [`with_memory_budget`](Self::with_memory_budget): 64 MiB.
    pub const MEMORY_BUDGET: usize = chunks::MEMORY_BUDGET;

    /// The loss on the default CPU engine, with the default budget.
    pub fn new() -> Self {
        Self::on(Cpu::new())
    }

    /// The loss on a CPU engine, whose threads also compute the products.
    pub fn on(cpu: Cpu) -> Self {
        Self {
            cpu,
            memory_budget: None,
            memory: Mutex::default(),
        }
    }

    /// Sets the bytes for the matrices of a chunk. A larger chunk reads the weights less often. The default is the larger of 64 MiB and 256
    /// rows.
    ///
    /// A row of a chunk needs
    ///
    /// ```text
    /// row_bytes = 4 (classes + teacher_columns + hidden (1 + segments) + teacher_hidden) + 64
    /// ```
    ///
    /// where `teacher_columns` is the smaller number of classes of both and `teacher_hidden` the teacher's hidden size if it has hidden
    /// states, else both are 0. The gradient of the hidden states is a sum over `segments` of the classes:
    ///
    /// ```text
    /// segment  = max(1024, ceil(classes / ceil(16 / ceil(hidden / 512))))
    /// segments = ceil(classes / segment)
    /// ```
    ///
    /// A chunk has `most = budget / row_bytes` rows, at least 1 and at most all, less what makes the chunks even: their number stays the
    /// least, and the rows of each are `ceil(rows / chunks)` rounded up to a multiple of 16, at most `most`. Rows with `ignore_index` do
    /// not count. A call allocates no more than the chunk, for each thread 1.2 MiB and 4 bytes times the larger of `classes` and 32,768,
    /// and less than 512 bytes a row.
    ///
    /// The results for another budget differ by rounding. They do not depend on the number of threads.
    pub fn with_memory_budget(self, bytes: usize) -> Self {
        Self {
            memory_budget: Some(bytes),
            ..Self::on(self.cpu)
        }
    }

    /// Rows of a chunk of the batch, if none of its rows has `ignore_index`.
    pub fn chunk_rows(&self, batch: &LinearBatch<'_>) -> usize {
        Shape::of(batch).chunk_rows(self.memory_budget)
    }

    /// Computes the whole method into the caller's memory.
    ///
    /// Loss, rows and metrics are those of [`Engine::run_into`](crate::Engine::run_into) on the logits. The gradients are
    /// `grad_hidden_states = grad_logits * weights`, `grad_weights = grad_logits^T * hidden_states` and `grad_bias = sum grad_logits` over
    /// the rows, in f32. A row that [`NonFinite::Skip`](crate::NonFinite::Skip) leaves out contributes 0 to each. Under
    /// [`NonFinite::Propagate`](crate::NonFinite::Propagate) a row with NaN makes the head's gradient NaN.
    ///
    /// [`Scope::Batch`](crate::Scope::Batch) computes the logits of several chunks twice: once for the mean KDR.
    ///
    /// # Errors
    /// Arguments are checked before anything runs. The error names the bad argument and its values.
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the host has no room for a chunk. The outputs are unchanged after either.
    pub fn run_into(
        &self,
        config: &Config,
        progress: Progress,
        batch: &LinearBatch<'_>,
        outputs: LinearOutputs<'_>,
    ) -> Result<Summary> {
        checks::run(config, progress, batch, &outputs)?;
        let call = Call::new(&self.cpu, config, progress, batch, self.memory_budget);
        let kept = || self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = kept().take().unwrap_or_default();
        let done = call.run(config, &mut memory, outputs);
        *kept() = done.is_ok().then_some(memory);
        done
    }
}

impl Clone for FusedLinear {
    fn clone(&self) -> Self {
        Self {
            memory_budget: self.memory_budget,
            ..Self::on(self.cpu.clone())
        }
    }
}

impl Default for FusedLinear {
    fn default() -> Self {
        Self::new()
    }
}
