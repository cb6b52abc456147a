//! The steps on a slice of the classes as operations of Burn's backends.

#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Flex, backend_extension};
#[cfg(feature = "fusion")]
use burn::tensor::DType;
use burn_cubecl::CubeBackend;

#[cfg(feature = "fusion")]
use super::inputs::ShardInputsMetadata;
use super::inputs::{ShardCall, ShardInputs};
use super::{on_cubecl, on_host};
#[cfg(feature = "fusion")]
use crate::backend_ops::{loss_and_gradient_specs, loss_specs};
use crate::backend_ops::{raise, raise_in_queue};

/// The steps. Not differentiable.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub trait ShardOps: Backend {
    /// The records of a step before the last, `i32 [rows, record_words]`.
    #[fusion(meta = record_specs)]
    fn shard_records(
        #[extension_type] inputs: ShardInputs<Self>,
        call: ShardCall,
    ) -> IntTensor<Self>;

    /// The last step without the gradient: rows, summary and its counts, as of the whole loss.
    #[fusion(meta = shard_loss_specs)]
    fn shard_loss(
        #[extension_type] inputs: ShardInputs<Self>,
        call: ShardCall,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>);

    /// The last step with the gradient of the slice.
    #[fusion(meta = shard_loss_and_gradient_specs)]
    fn shard_loss_and_gradient(
        #[extension_type] inputs: ShardInputs<Self>,
        call: ShardCall,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
    );
}

#[cfg(feature = "fusion")]
fn record_specs(inputs: &ShardInputsMetadata, call: &ShardCall) -> TensorSpec {
    let rows = inputs.batch.student.shape[0];
    TensorSpec::new([rows, call.record_words()].into(), DType::I32)
}

#[cfg(feature = "fusion")]
fn shard_loss_specs(
    inputs: &ShardInputsMetadata,
    call: &ShardCall,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    loss_specs(&inputs.batch, &call.call)
}

#[cfg(feature = "fusion")]
fn shard_loss_and_gradient_specs(
    inputs: &ShardInputsMetadata,
    call: &ShardCall,
) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
    loss_and_gradient_specs(&inputs.batch, &call.call)
}

macro_rules! shard_ops {
    ($backend:ty, $steps:ident, $fail:path) => {
        impl ShardOps for $backend {
            fn shard_records(inputs: ShardInputs<Self>, call: ShardCall) -> IntTensor<Self> {
                $steps::records(inputs, &call).unwrap_or_else(|error| $fail(error))
            }

            fn shard_loss(
                inputs: ShardInputs<Self>,
                call: ShardCall,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>) {
                $steps::apply(inputs, &call, false)
                    .unwrap_or_else(|error| $fail(error))
                    .without_gradient()
            }

            fn shard_loss_and_gradient(
                inputs: ShardInputs<Self>,
                call: ShardCall,
            ) -> (
                FloatTensor<Self>,
                FloatTensor<Self>,
                IntTensor<Self>,
                FloatTensor<Self>,
            ) {
                $steps::apply(inputs, &call, true)
                    .unwrap_or_else(|error| $fail(error))
                    .with_gradient()
            }
        }
    };
}

shard_ops!(CubeBackend, on_cubecl, raise_in_queue);
shard_ops!(Flex, on_host, raise);
