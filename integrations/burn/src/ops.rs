//! The operations that Burn dispatches to a backend.

#![cfg_attr(
    feature = "ndarray",
    allow(deprecated, reason = "Burn deprecates that backend")
)]

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Flex, Scalar, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::CubeBackend;

use crate::task::Task;
use crate::{Error, Result, cube, host};

/// Four numbers a row: loss, KDR, TSSR, and flags (as bits).
pub(crate) const ROW_WORDS: usize = 4;
/// Eight numbers a batch: loss, mean KDR, mean TSSR, and five counts (as bits).
pub(crate) const SUMMARY_WORDS: usize = 8;

/// The kernels: student and teacher `[rows, classes]`, labels `i32 [rows]`. None of it is differentiable.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub trait DistillOps: Backend {
    /// Row results `f32 [rows, 4]`, summary `f32 [8]` and the same words as `i32 [8]`, for its counts.
    #[fusion(meta = observed)]
    fn distill_observe(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        labels: IntTensor<Self>,
        task: Task,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>);

    /// The same, and the gradient `[rows, classes]` in the student's type.
    #[fusion(meta = differentiated)]
    fn distill_gradient(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        labels: IntTensor<Self>,
        task: Task,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
    );
}

#[cfg(feature = "fusion")]
fn observed(
    student: &TensorSpec,
    _teacher: &TensorSpec,
    _labels: &TensorSpec,
    _task: &Task,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    let rows = Shape::from([student.shape[0], ROW_WORDS]);
    (
        TensorSpec::new(rows, DType::F32),
        TensorSpec::new([SUMMARY_WORDS].into(), DType::F32),
        TensorSpec::new([SUMMARY_WORDS].into(), DType::I32),
    )
}

#[cfg(feature = "fusion")]
fn differentiated(
    student: &TensorSpec,
    teacher: &TensorSpec,
    labels: &TensorSpec,
    task: &Task,
) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
    let (rows, summary, counts) = observed(student, teacher, labels, task);
    (rows, summary, counts, student.clone())
}

/// What the operations above give, on a backend.
pub(crate) struct Raw<B: Backend> {
    pub rows: FloatTensor<B>,
    pub summary: FloatTensor<B>,
    pub counts: IntTensor<B>,
    pub gradient: Option<FloatTensor<B>>,
}

impl<B: Backend> Raw<B> {
    fn observed(self) -> (FloatTensor<B>, FloatTensor<B>, IntTensor<B>) {
        (self.rows, self.summary, self.counts)
    }

    fn differentiated(self) -> (FloatTensor<B>, FloatTensor<B>, IntTensor<B>, FloatTensor<B>) {
        let gradient = self.gradient.expect("it was asked for");
        (self.rows, self.summary, self.counts, gradient)
    }
}

macro_rules! kernels {
    ($backend:ty, $run:path, $fail:path) => {
        impl DistillOps for $backend {
            fn distill_observe(
                student: FloatTensor<Self>,
                teacher: FloatTensor<Self>,
                labels: IntTensor<Self>,
                task: Task,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>) {
                $run(student, teacher, labels, &task, false)
                    .unwrap_or_else(|error| $fail(error))
                    .observed()
            }

            fn distill_gradient(
                student: FloatTensor<Self>,
                teacher: FloatTensor<Self>,
                labels: IntTensor<Self>,
                task: Task,
            ) -> (
                FloatTensor<Self>,
                FloatTensor<Self>,
                IntTensor<Self>,
                FloatTensor<Self>,
            ) {
                $run(student, teacher, labels, &task, true)
                    .unwrap_or_else(|error| $fail(error))
                    .differentiated()
            }
        }
    };
}

kernels!(CubeBackend, cube::distill, fail_in_queue);
kernels!(Flex, host::distill, fail);

/// Carries an error up to `try_forward`, through Burn's dispatch, which knows none.
fn fail(error: Error) -> ! {
    std::panic::resume_unwind(Box::new(error))
}

/// With fusion the work runs later, on a thread of Burn's that makes errors of panics and gives them to whoever reads.
fn fail_in_queue(error: Error) -> ! {
    if cfg!(feature = "fusion") {
        panic!("{error}");
    }
    fail(error)
}

/// Gives an error that [`fail`] carried up.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|payload| {
        match payload.downcast::<Error>() {
            Ok(error) => *error,
            Err(other) => std::panic::resume_unwind(other),
        }
    })
}

/// Makes a loss differentiable by the gradient that was computed with it.
#[backend_extension(
    Autodiff,
    Cube,
    Flex,
    NdArray: cfg(feature = "ndarray"),
    Fusion: cfg(feature = "fusion")
)]
pub trait AttachOps: Backend {
    /// The loss, `[1]` or `[rows]`. Under autodiff its backward gives `student` the `gradient`, times the upstream gradient, over `grad_scale`.
    #[fusion(default)]
    fn distill_attach(
        student: FloatTensor<Self>,
        loss: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        grad_scale: f32,
    ) -> FloatTensor<Self> {
        let _ = (student, gradient, grad_scale);
        loss
    }
}

impl AttachOps for CubeBackend {}
impl AttachOps for Flex {}
#[cfg(feature = "ndarray")]
impl AttachOps for burn::backend::NdArray {}

/// Keeps the gradient and nothing else from forward to backward.
#[derive(Debug)]
struct Attach;

impl<B: Backend> Backward<B, 1> for Attach {
    type State = (FloatTensor<B>, f32);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (gradient, grad_scale) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |upstream| {
            let rows = upstream.shape().num_elements();
            let factor = B::float_reshape(upstream, Shape::from([rows, 1]));
            let factor = if grad_scale == 1.0 {
                factor
            } else {
                B::float_mul_scalar(factor, Scalar::from(1.0 / grad_scale))
            };
            let dtype = gradient.dtype();
            if dtype == DType::F32 {
                return B::float_mul(gradient, factor);
            }
            // In f32 and rounded once: a loss scale of 65,536 is infinity in f16.
            let wide = B::float_cast(gradient, FloatDType::F32);
            B::float_cast(B::float_mul(wide, factor), dtype.into())
        });
    }
}

impl<B: Backend + AttachOps, C: CheckpointStrategy> AttachOps for Autodiff<B, C> {
    fn distill_attach(
        student: FloatTensor<Self>,
        loss: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        grad_scale: f32,
    ) -> FloatTensor<Self> {
        let loss = loss.into_primitive();
        // The gradient is kept, never recomputed: that would take both logits.
        match Attach
            .prepare::<C>([student.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((gradient.into_primitive(), grad_scale), loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        }
    }
}
