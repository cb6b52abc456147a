//! The kernels as operations of Burn's backends.

#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Flex, backend_extension};
#[cfg(feature = "fusion")]
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;

use crate::error::{Error, Result};
use crate::execution_path::ExecutionPath;
use crate::kernel_inputs::KernelInputs;
#[cfg(feature = "fusion")]
use crate::kernel_inputs::KernelInputsMetadata;
use crate::kernel_outputs::KernelOutputs;
#[cfg(feature = "fusion")]
use crate::kernel_outputs::{SUMMARY_WORDS, row_words};
use crate::kernel_tensors::KernelTensors;
use crate::loss_call::LossCall;
use crate::{buffer_kernels, host_kernels, source_kernels};

/// The kernels. Not differentiable.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub trait LossOps: Backend {
    /// Rows `f32 [rows, row_words(..)]`, summary `f32 [SUMMARY_WORDS]`, and its words as `i32`, for its counts.
    #[fusion(meta = loss_specs)]
    fn distill_loss(
        #[extension_type] inputs: KernelInputs<Self>,
        call: LossCall,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>);

    /// The results of `distill_loss`, and the gradient `[rows, classes]` in the call's gradient type.
    #[fusion(meta = loss_and_gradient_specs)]
    fn distill_loss_and_gradient(
        #[extension_type] inputs: KernelInputs<Self>,
        call: LossCall,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
    );
}

#[cfg(feature = "fusion")]
pub(crate) fn loss_specs(
    inputs: &KernelInputsMetadata,
    call: &LossCall,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    let rows = Shape::from([inputs.student.shape[0], row_words(call.row_metrics)]);
    (
        TensorSpec::new(rows, DType::F32),
        TensorSpec::new([SUMMARY_WORDS].into(), DType::F32),
        TensorSpec::new([SUMMARY_WORDS].into(), DType::I32),
    )
}

#[cfg(feature = "fusion")]
pub(crate) fn loss_and_gradient_specs(
    inputs: &KernelInputsMetadata,
    call: &LossCall,
) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
    let (rows, summary, counts) = loss_specs(inputs, call);
    let student = &inputs.student;
    let gradient = TensorSpec::new(student.shape.clone(), call.gradient_type(student.dtype));
    (rows, summary, counts, gradient)
}

impl<B: Backend> KernelOutputs<B> {
    pub(crate) fn without_gradient(self) -> (FloatTensor<B>, FloatTensor<B>, IntTensor<B>) {
        (self.rows, self.summary, self.counts)
    }

    pub(crate) fn with_gradient(
        self,
    ) -> (FloatTensor<B>, FloatTensor<B>, IntTensor<B>, FloatTensor<B>) {
        let gradient = self
            .gradient
            .expect("the kernels were asked for the gradient");
        (self.rows, self.summary, self.counts, gradient)
    }
}

macro_rules! loss_ops {
    ($backend:ty, $run:path, $fail:path) => {
        impl LossOps for $backend {
            fn distill_loss(
                inputs: KernelInputs<Self>,
                call: LossCall,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>) {
                $run(inputs, &call, false)
                    .unwrap_or_else(|error| $fail(error))
                    .without_gradient()
            }

            fn distill_loss_and_gradient(
                inputs: KernelInputs<Self>,
                call: LossCall,
            ) -> (
                FloatTensor<Self>,
                FloatTensor<Self>,
                IntTensor<Self>,
                FloatTensor<Self>,
            ) {
                $run(inputs, &call, true)
                    .unwrap_or_else(|error| $fail(error))
                    .with_gradient()
            }
        }
    };
}

loss_ops!(CubeBackend, distill_on_cubecl, raise_in_queue);
loss_ops!(Flex, host_kernels::distill, raise);

fn distill_on_cubecl(
    inputs: KernelInputs<CubeBackend>,
    call: &LossCall,
    want_gradient: bool,
) -> Result<KernelOutputs<CubeBackend>> {
    // With fusion this runs later than the check of the arguments: a capture may have begun since.
    if inputs.student.client.is_capturing() {
        return Err(Error::Capturing);
    }
    let tensors = KernelTensors::new(inputs, call, want_gradient);
    match call.path {
        ExecutionPath::SharedDevice => buffer_kernels::distill(tensors, call),
        ExecutionPath::SourceKernels => source_kernels::distill(tensors, call),
        ExecutionPath::Host | ExecutionPath::Composed => {
            unreachable!("these paths launch no kernels on CubeCL's devices")
        }
    }
}

/// Unwinds with the error through Burn's dispatch, whose operations return no `Result`, up to [`catch_error`].
pub(crate) fn raise(error: Error) -> ! {
    std::panic::resume_unwind(Box::new(error))
}

/// With fusion the kernels run later, on a thread of Burn. The next read returns the message of a panic on that thread.
pub(crate) fn raise_in_queue(error: Error) -> ! {
    if cfg!(feature = "fusion") {
        panic!("{error}");
    }
    raise(error)
}

/// Returns an error that `operation` raised.
pub(crate) fn catch_error<T>(operation: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(operation)).map_err(|payload| {
        match payload.downcast::<Error>() {
            Ok(error) => *error,
            Err(other) => std::panic::resume_unwind(other),
        }
    })
}
