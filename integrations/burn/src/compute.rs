//! The loss of checked tensors, on any path.

use burn::backend::Dispatch;
use burn::tensor::{DType, Tensor};

use crate::backend_ops::{LossOps, catch_error};
use crate::composed;
use crate::error::Result;
use crate::execution_path::ExecutionPath;
use crate::kernel_inputs::Arguments;
use crate::kernel_outputs::{LossTensors, SUMMARY_WORDS, row_words};
use crate::loss_call::LossCall;

/// Computes the loss of tensors without autodiff, and its gradient if it is wanted.
pub(crate) fn compute(
    arguments: Arguments,
    call: LossCall,
    want_gradient: bool,
) -> Result<LossTensors> {
    let student = &arguments.student;
    if student.dims()[0] == 0 {
        return Ok(no_rows(student, want_gradient, &call));
    }
    if call.path == ExecutionPath::Composed {
        return composed::distill(arguments, &call, want_gradient);
    }
    let inputs = arguments.into_kernel_inputs();
    catch_error(|| {
        if want_gradient {
            let (r, s, c, g) = Dispatch::distill_loss_and_gradient(inputs, call);
            LossTensors::from_dispatch((r, s, c), Some(g))
        } else {
            LossTensors::from_dispatch(Dispatch::distill_loss(inputs, call), None)
        }
    })
}

/// The results of a batch without rows, for which no kernel is launched.
pub(crate) fn no_rows(student: &Tensor<2>, want_gradient: bool, call: &LossCall) -> LossTensors {
    let device = &student.device();
    let dtype = call.gradient_type(student.dtype());
    let [_, classes] = student.dims();
    LossTensors {
        rows: Tensor::zeros([0, row_words(call.row_metrics)], (device, DType::F32)),
        summary: Tensor::zeros([SUMMARY_WORDS], (device, DType::F32)),
        counts: Tensor::zeros([SUMMARY_WORDS], (device, DType::I32)),
        gradient: want_gradient.then(|| Tensor::zeros([0, classes], (device, dtype))),
    }
}
