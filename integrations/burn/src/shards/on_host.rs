//! The steps on the memory of Burn's flex backend, by the CPU path.

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorData};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::plan::ShardStep;
use wgpu_distill::{RowStats, Summary, SweepSums, finish_shards, merge_shards};

use super::inputs::{ShardCall, ShardInputs};
use crate::error::Result;
use crate::host_kernels::{HostInputs, summary_tensors};
use crate::kernel_inputs::OptionalInt;
use crate::kernel_outputs::{KernelOutputs, RESULT_WORDS};

/// The records of all shards.
fn list<T: bytemuck::Pod>(tensor: OptionalInt<Flex>) -> Vec<T> {
    let words = tensor.tensor().map(|words| words.to_contiguous());
    words.map_or_else(Vec::new, |words| {
        bytemuck::pod_collect_to_vec(words.as_slice::<i32>().unwrap_or_default())
    })
}

/// The records of each shard.
fn of_each<T>(records: &[T], rows: usize) -> Vec<&[T]> {
    records.chunks(rows).collect()
}

fn tensor<T: bytemuck::NoUninit>(records: &[T]) -> FlexTensor {
    let words: Vec<i32> = bytemuck::cast_slice(records).to_vec();
    let shape = [records.len(), size_of::<T>() / 4];
    FlexTensor::from_data(TensorData::new(words, shape))
}

pub(super) fn records(inputs: ShardInputs<Flex>, of: &ShardCall) -> Result<FlexTensor> {
    let host = HostInputs::new(inputs.batch);
    let (cpu, config, batch) = (Cpu::new(), &of.call.config, host.batch());
    if of.step == ShardStep::Observe {
        return Ok(tensor(&cpu.observe_shard(config, &batch, of.shard)?));
    }
    let stats: Vec<RowStats> = list(inputs.row_stats);
    let merged = merge_shards(config, &of_each(&stats, batch.rows()))?;
    Ok(tensor(&cpu.sweep_shard(config, &batch, of.shard, &merged)?))
}

pub(super) fn apply(
    inputs: ShardInputs<Flex>,
    of: &ShardCall,
    want_gradient: bool,
) -> Result<KernelOutputs<Flex>> {
    let host = HostInputs::new(inputs.batch);
    let ([rows, columns], batch) = (host.shape(), host.batch());
    let (cpu, config) = (Cpu::new(), &of.call.config);
    let stats: Vec<RowStats> = list(inputs.row_stats);
    let sums: Vec<SweepSums> = list(inputs.sweep_sums);
    let merged = merge_shards(config, &of_each(&stats, rows))?;
    let stats = finish_shards(config, &merged, &of_each(&sums, rows))?;
    let decisions = cpu.decide(config, of.call.progress, &stats, of.shard.classes)?;
    let results: Vec<_> = decisions.iter().map(|decision| decision.result).collect();
    let [summary, counts] = summary_tensors(Summary::of_rows(&results, config.reduction));
    let words: Vec<f32> = results
        .iter()
        .flat_map(|result| bytemuck::cast::<_, [f32; RESULT_WORDS]>(*result))
        .collect();
    let gradient = match want_gradient {
        true => Some(cpu.apply_shard(config, &batch, of.shard, &decisions)?),
        false => None,
    };
    Ok(KernelOutputs {
        rows: FlexTensor::from_data(TensorData::new(words, [rows, RESULT_WORDS])),
        summary,
        counts,
        gradient: gradient.map(|g| FlexTensor::from_data(TensorData::new(g, [rows, columns]))),
    })
}
