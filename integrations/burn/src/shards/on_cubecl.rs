//! The steps in CubeCL's memory, compiled and launched by Burn's runtime, on shared devices too.

use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use wgpu_distill::plan::ShardStep;

use super::inputs::{STATS_WORDS, ShardCall, ShardInputs};
use crate::error::{Error, Result};
use crate::kernel_outputs::KernelOutputs;
use crate::kernel_tensors::KernelTensors;
use crate::source_kernels::{self, ShardTensors};

/// The tensors of a step, with room for its records.
fn tensors(
    inputs: ShardInputs<CubeBackend>,
    of: &ShardCall,
    want_gradient: bool,
) -> Result<(KernelTensors, ShardTensors)> {
    if inputs.batch.student.client.is_capturing() {
        return Err(Error::Capturing);
    }
    let tensors = KernelTensors::new(inputs.batch, &of.call, want_gradient);
    let student = &tensors.student;
    let room = |words: usize| {
        let (client, device) = (student.client.clone(), student.device.clone());
        let shape = [tensors.row_count(), words].into();
        empty_device_contiguous_dtype(client, device, shape, DType::I32)
    };
    let given = inputs.row_stats.tensor().map(into_contiguous);
    let sums = inputs.sweep_sums.tensor().map(into_contiguous);
    let of_shard = ShardTensors {
        shard: of.shard,
        step: of.step,
        shards: of.shards,
        row_stats: given.unwrap_or_else(|| room(STATS_WORDS)),
        sweep_sums: match of.step {
            ShardStep::Sweep => Some(room(of.record_words())),
            _ => sums,
        },
    };
    Ok((tensors, of_shard))
}

pub(super) fn records(inputs: ShardInputs<CubeBackend>, of: &ShardCall) -> Result<CubeTensor> {
    let (tensors, of_shard) = tensors(inputs, of, false)?;
    source_kernels::run(&tensors, &of.call, Some(&of_shard))?;
    Ok(of_shard.sweep_sums.unwrap_or(of_shard.row_stats))
}

pub(super) fn apply(
    inputs: ShardInputs<CubeBackend>,
    of: &ShardCall,
    want_gradient: bool,
) -> Result<KernelOutputs<CubeBackend>> {
    let (tensors, of_shard) = tensors(inputs, of, want_gradient)?;
    source_kernels::run(&tensors, &of.call, Some(&of_shard))?;
    Ok(tensors.into_outputs([0; 2]))
}
