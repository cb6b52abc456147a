//! The loss as a node of Burn's autodiff graph.

#![cfg_attr(
    feature = "ndarray",
    allow(deprecated, reason = "Burn deprecates that backend")
)]

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, Scalar, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Shape, Tensor};
use burn_cubecl::CubeBackend;

/// Makes a loss differentiable. The gradient was computed together with the loss.
#[backend_extension(
    Autodiff,
    Cube,
    Flex,
    NdArray: cfg(feature = "ndarray"),
    Fusion: cfg(feature = "fusion")
)]
pub trait GradientOps: Backend {
    /// The loss, `[1]` or `[rows]`. Its backward gives `student` the product of `gradient` and upstream gradient, divided by `grad_scale`.
    #[fusion(default)]
    fn attach_gradient(
        student: FloatTensor<Self>,
        loss: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        grad_scale: f32,
    ) -> FloatTensor<Self> {
        let _ = (student, gradient, grad_scale);
        loss
    }
}

/// The loss, `[1]` or `[rows]`, whose backward gives `tensor` the product of `gradient` and upstream gradient, divided by `grad_scale`.
/// Loss and gradient are without autodiff.
pub(crate) fn attach(
    tensor: Tensor<2>,
    loss: Tensor<1>,
    gradient: Tensor<2>,
    grad_scale: f32,
) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::attach_gradient(
        tensor.into_dispatch(),
        loss.into_dispatch(),
        gradient.into_dispatch(),
        grad_scale,
    ))
}

impl GradientOps for CubeBackend {}
impl GradientOps for Flex {}
#[cfg(feature = "ndarray")]
impl GradientOps for burn::backend::NdArray {}

/// Keeps only the gradient from forward to backward.
#[derive(Debug)]
struct AttachedGradient;

impl<B: Backend> Backward<B, 1> for AttachedGradient {
    type State = (FloatTensor<B>, f32, DType);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (gradient, grad_scale, dtype) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |upstream| {
            let rows = upstream.shape().num_elements();
            let factor = B::float_reshape(upstream, Shape::from([rows, 1]));
            let factor = if grad_scale == 1.0 {
                factor
            } else {
                B::float_mul_scalar(factor, Scalar::from(1.0 / grad_scale))
            };
            // The product is taken in f32 and rounded once: a loss scale of 65,536 overflows f16.
            let gradient = match gradient.dtype() {
                DType::F32 => gradient,
                _ => B::float_cast(gradient, FloatDType::F32),
            };
            let product = B::float_mul(gradient, factor);
            match dtype {
                DType::F32 => product,
                _ => B::float_cast(product, dtype.into()),
            }
        });
    }
}

impl<B: Backend + GradientOps, C: CheckpointStrategy> GradientOps for Autodiff<B, C> {
    fn attach_gradient(
        student: FloatTensor<Self>,
        loss: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        grad_scale: f32,
    ) -> FloatTensor<Self> {
        let loss = loss.into_primitive();
        let dtype = student.dtype();
        // Recomputing the gradient would keep the logits of both models, so checkpointing keeps it.
        match AttachedGradient
            .prepare::<C>([student.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                prep.finish((gradient.into_primitive(), grad_scale, dtype), loss)
            }
            OpsKind::UnTracked(prep) => prep.finish(loss),
        }
    }
}
