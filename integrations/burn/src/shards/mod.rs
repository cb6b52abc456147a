//! The loss of classes on several devices.

mod inputs;
mod on_cubecl;
mod on_host;
mod ops;

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Int, Tensor};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::plan::ShardStep;
use wgpu_distill::{Batch, Progress, Shard};

use self::inputs::{Gathered, ShardCall};
use self::ops::ShardOps;
use crate::arguments::{self, Given};
use crate::autodiff::attach;
use crate::backend_ops::catch_error;
use crate::batch::DistillationBatch;
use crate::compute::no_rows;
use crate::denominator::{Denominator, reciprocal};
use crate::error::{Error, Result};
use crate::execution_path::{self, ExecutionPath};
use crate::kernel_inputs::Arguments;
use crate::kernel_outputs::LossTensors;
use crate::loss::DistillationLoss;
use crate::loss_call::LossCall;
use crate::output::DistillationOutput;

/// The slice of the classes that one device has.
struct Slice {
    call: LossCall,
    shard: Shard,
    /// The student's logits with the caller's autodiff.
    student: Tensor<2>,
    arguments: Arguments,
    given: Given,
}

impl Slice {
    fn device(&self) -> Device {
        self.arguments.student.device()
    }

    fn call(&self, step: ShardStep, shards: usize) -> ShardCall {
        ShardCall {
            call: self.call.clone(),
            shard: self.shard,
            step,
            shards,
        }
    }

    /// The records of a step before the last.
    fn records(
        &self,
        step: ShardStep,
        shards: usize,
        gathered: &Gathered,
    ) -> Result<Tensor<2, Int>> {
        let call = self.call(step, shards);
        let inputs = gathered.inputs(self.arguments.clone());
        let records = catch_error(|| Dispatch::shard_records(inputs, call))?;
        Ok(Tensor::from_dispatch(records))
    }

    /// The last step.
    fn apply(&self, shards: usize, gathered: &Gathered, gradient: bool) -> Result<LossTensors> {
        let call = self.call(ShardStep::Apply, shards);
        let inputs = gathered.inputs(self.arguments.clone());
        catch_error(|| match gradient {
            true => {
                let (r, s, c, g) = Dispatch::shard_loss_and_gradient(inputs, call);
                LossTensors::from_dispatch((r, s, c), Some(g))
            }
            false => LossTensors::from_dispatch(Dispatch::shard_loss(inputs, call), None),
        })
    }
}

/// The records of all slices on each of their devices, in the order of the classes: an all-gather.
fn gather(slices: &[Slice], records: &[Tensor<2, Int>]) -> Vec<Tensor<2, Int>> {
    let first = slices[0].device();
    let all = records.iter().map(|own| own.clone().to_device(&first));
    let all = Tensor::cat(all.collect(), 0);
    let to = |slice: &Slice| all.clone().to_device(&slice.device());
    slices.iter().map(to).collect()
}

impl DistillationLoss {
    /// The loss of classes that lie on several devices (tensor parallel), with its metrics.
    ///
    /// # Panics
    /// If [`try_forward_shards`](Self::try_forward_shards) returns an error, with its text.
    pub fn forward_shards<const D: usize, const L: usize>(
        &self,
        shards: Vec<DistillationBatch<D, L>>,
        progress: Progress,
    ) -> DistillationOutput {
        self.try_forward_shards(shards, progress)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The loss of classes that lie on several devices (tensor parallel), with its metrics, or an error.
    ///
    /// `shards` has a batch for each device, in the order of the classes: the device's columns of both matrices and of soft labels. Labels are
    /// numbers among all classes. Labels, weights of rows and masks are equal in every batch, each on the batch's device; the
    /// denominator is that of the first batch. The outputs are on the first device. Each student's logits get their gradient on their own device.
    ///
    /// The devices exchange 224 bytes a row, and 16 more for losses of two sweeps, through Burn's
    /// [`to_device`](burn::tensor::Tensor::to_device). No logits leave their device.
    ///
    /// ```
    /// use burn::tensor::{Device, Int, Tensor};
    /// use burn_distill::{DistillationBatch, DistillationLossConfig, Progress};
    ///
    /// let device = Device::flex();
    /// let logits = |from: usize, to: usize| {
    ///     Tensor::<2>::from_floats([[2.0, 0.5, 1.0, 3.0, 0.0], [0.0, 1.0, 0.5, -1.0, 2.0]], &device).slice([0..2, from..to])
    /// };
    /// let labels = || Tensor::<1, Int>::from_ints([3, 1], &device);
    /// let shards = vec![
    ///     DistillationBatch::new(logits(0, 3), logits(0, 3) * 2.0, labels()),
    ///     DistillationBatch::new(logits(3, 5), logits(3, 5) * 2.0, labels()),
    /// ];
    /// let loss = DistillationLossConfig::new().init();
    /// let sharded = loss.forward_shards(shards, Progress::new(1, 4)).loss.into_scalar::<f32>();
    /// let whole = loss.forward(logits(0, 5), logits(0, 5) * 2.0, labels(), Progress::new(1, 4));
    /// assert!((sharded - whole.into_scalar::<f32>()).abs() < 1e-6);
    /// ```
    ///
    /// # Errors
    /// As [`try_forward`](Self::try_forward); [`Error::Shards`] for batches that do not belong together, on [`ExecutionPath::Composed`], and
    /// with [`with_row_metrics`](Self::with_row_metrics). Class weights, lists as teachers, standardised logits and a teacher of another width
    /// are refused by name.
    pub fn try_forward_shards<const D: usize, const L: usize>(
        &self,
        shards: Vec<DistillationBatch<D, L>>,
        progress: Progress,
    ) -> Result<DistillationOutput> {
        let denominator = shards.first().and_then(|batch| batch.denominator.clone());
        let slices = self.slices(shards, denominator.as_ref(), progress)?;
        let first = &slices[0];
        let (call, count) = (&first.call, slices.len());
        let wanted = |slice: &Slice| slice.student.is_tracked();
        let outputs: Vec<LossTensors> = match first.student.dims()[0] {
            0 => {
                let none = |slice: &Slice| no_rows(&slice.arguments.student, wanted(slice), call);
                slices.iter().map(none).collect()
            }
            _ => {
                let mut gathered = vec![Gathered::default(); count];
                let records = slices.iter().zip(&gathered).map(|(slice, none)| {
                    let records = slice.records(ShardStep::Observe, 1, none);
                    records.map_err(|error| slice.given.clone().name(error))
                });
                let records = records.collect::<Result<Vec<_>>>()?;
                for (own, all) in gathered.iter_mut().zip(gather(&slices, &records)) {
                    own.row_stats = Some(all);
                }
                if call.config.sweeps_twice() {
                    let sweep = |(slice, own): (&Slice, &Gathered)| {
                        slice.records(ShardStep::Sweep, count, own)
                    };
                    let records = slices.iter().zip(&gathered).map(sweep);
                    let records = records.collect::<Result<Vec<_>>>()?;
                    for (own, all) in gathered.iter_mut().zip(gather(&slices, &records)) {
                        own.sweep_sums = Some(all);
                    }
                }
                let apply =
                    |(slice, own): (&Slice, &Gathered)| slice.apply(count, own, wanted(slice));
                let all = slices.iter().zip(&gathered).map(apply);
                all.collect::<Result<Vec<_>>>()?
            }
        };
        let mut loss = joined(&slices, &outputs);
        if let Some(number) = denominator.and_then(Denominator::on_device) {
            let factor = reciprocal(number, outputs[0].valid_rows());
            loss = match slices.iter().any(wanted) {
                true => loss * Tensor::from_inner(factor),
                false => loss * factor,
            };
        }
        let labels = first.arguments.labels.clone();
        Ok(self.output(&outputs[0], loss, labels, call.path))
    }

    /// The checked slices.
    fn slices<const D: usize, const L: usize>(
        &self,
        shards: Vec<DistillationBatch<D, L>>,
        denominator: Option<&Denominator>,
        progress: Progress,
    ) -> Result<Vec<Slice>> {
        let refused = |shard, why: &str| Error::Shards {
            shard,
            why: why.to_owned(),
        };
        if shards.is_empty() {
            return Err(refused(0, "there is none"));
        }
        if self.has_row_metrics() {
            return Err(refused(
                0,
                "metrics of rows are not computed of classes in shards",
            ));
        }
        let rows = shards[0].labels.dims();
        let columns = |batch: &DistillationBatch<D, L>| batch.student_logits.dims()[D - 1];
        let classes = shards.iter().map(columns).sum();
        let (mut slices, mut first_class) = (Vec::<Slice>::new(), 0);
        for (i, mut batch) in shards.into_iter().enumerate() {
            let own = columns(&batch);
            let shard = Shard::new(first_class, classes);
            first_class += own;
            if batch.labels.dims() != rows {
                return Err(refused(
                    i,
                    "its labels have another shape than those of the first",
                ));
            }
            // That of the first batch divides the sum of all.
            batch.denominator = batch.denominator.filter(|_| i == 0);
            let device = batch.student_logits.device();
            let mut call = self.call(denominator, &device, progress, [true, false])?;
            // The steps of the CPU path give gradients in f32.
            call.divided_later = true;
            // Burn's runtime launches the steps, on shared devices too.
            if call.path == ExecutionPath::SharedDevice {
                call.path = execution_path::launched_by_burn(&device);
            }
            if call.path == ExecutionPath::Composed {
                return Err(refused(
                    i,
                    "only the kernels have it: it needs flex, or wgpu with WGSL",
                ));
            }
            let host = |path| path == ExecutionPath::Host;
            if slices
                .first()
                .is_some_and(|s| host(s.call.path) != host(call.path))
            {
                return Err(refused(
                    i,
                    "it is on the CPU and the first on a GPU, or the reverse",
                ));
            }
            check_choices(&call, &batch, shard)?;
            let given = Given::of::<D, L>(&batch.labels, None, call.path);
            let arguments = arguments::check(&call, batch, self.pad_tokens())?;
            slices.push(Slice {
                student: arguments.student.clone(),
                arguments: arguments.inner(),
                call,
                shard,
                given,
            });
        }
        Ok(slices)
    }
}

/// Runs the core's checks of what shards have.
fn check_choices<const D: usize, const L: usize>(
    call: &LossCall,
    batch: &DistillationBatch<D, L>,
    shard: Shard,
) -> Result<()> {
    let columns = |tensor: &Tensor<D>| arguments::logits_without_rows(tensor.dims()[D - 1]);
    let soft_labels = batch.soft_labels.as_ref().map(columns);
    let empty = Batch {
        student_logits: columns(&batch.student_logits),
        teacher_logits: columns(&batch.teacher_logits),
        labels: &[],
        soft_labels,
        row_weights: None,
        class_weights: batch.class_weights.as_ref().map(|_| &[][..]),
        teacher_ids: batch.teacher_ids.as_ref().map(|_| &[][..]),
    };
    Cpu::new().observe_shard(&call.config, &empty, shard)?;
    Ok(())
}

/// The loss on the first device, whose backward gives each student its gradient on its own.
fn joined(slices: &[Slice], outputs: &[LossTensors]) -> Tensor<1> {
    let reduction = slices[0].call.config.reduction;
    let loss = outputs[0].loss(reduction);
    let mut total: Option<Tensor<1>> = None;
    for (slice, own) in slices.iter().zip(outputs) {
        let Some(gradient) = own.gradient.clone() else {
            continue;
        };
        let part = match total {
            None => loss.clone().to_device(&slice.device()),
            // The others carry the gradient alone.
            Some(_) => Tensor::zeros(loss.dims(), (&slice.device(), DType::F32)),
        };
        let scale = slice.call.config.grad_loss;
        let part = attach(slice.student.clone(), part, gradient, scale);
        total = Some(match total {
            None => part.to_device(&slices[0].student.device()),
            Some(sum) => {
                let device = sum.device();
                sum + part.to_device(&device)
            }
        });
    }
    total.unwrap_or(loss)
}
