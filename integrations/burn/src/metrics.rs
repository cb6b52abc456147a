//! Metrics for Burn's learner and its dashboard.

use std::sync::Arc;

use burn::backend::ExecutionError;
use burn::tensor::{Int, Tensor, TensorReadError};
use burn::train::ItemLazy;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    AccuracyInput, Adaptor, LossInput, Metric, MetricAttributes, MetricMetadata, MetricName,
    Numeric, NumericAttributes, NumericEntry, PerplexityInput, SerializedEntry, TopKAccuracyInput,
};

use crate::DistillationOutput;

/// The input of [`KdrMetric`], [`TssrMetric`], [`AgreementMetric`] and [`DistillationLossMetric`] for one step.
#[derive(Clone, Debug)]
pub struct DistillationInput {
    /// The loss with its metrics, without autodiff.
    pub distillation: DistillationOutput,
    /// `[rows, classes]`
    pub student_logits: Tensor<2>,
    /// `[rows, classes]`
    pub teacher_logits: Tensor<2>,
}

/// The output of a training step, for the metrics of this crate and for Burn's loss, accuracy, top-k accuracy and perplexity. The
/// counterpart of Burn's `ClassificationOutput` and `SequenceOutput`.
///
/// Each metric leaves out the rows that the loss leaves out as padding: those with `ignore_index`, a pad token or a mask. Burn's metrics get
/// the other rows alone, so that they need no `with_pad_token`; a batch of padding alone gives them no row.
#[derive(Clone, Debug)]
pub struct DistillationTrainOutput {
    /// The loss with its metrics.
    pub distillation: DistillationOutput,
    /// `[rows, classes]`
    pub student_logits: Tensor<2>,
    /// `[rows, classes]`
    pub teacher_logits: Tensor<2>,
}

impl DistillationTrainOutput {
    /// The output of a step. Logits are those of the call, `[rows, classes]` or `[batch, sequence, classes]`; the loss has its labels.
    ///
    /// # Panics
    /// If the logits do not have as many rows as the loss.
    pub fn new<const D: usize>(
        distillation: DistillationOutput,
        student_logits: Tensor<D>,
        teacher_logits: Tensor<D>,
    ) -> Self {
        let [rows] = distillation.labels.dims();
        let matrix = |logits: Tensor<D>| {
            let shape = logits.dims();
            let classes = shape[D - 1];
            let own = shape[..D - 1].iter().product::<usize>();
            assert_eq!(own, rows, "logits of shape {shape:?} for {rows} rows");
            logits.reshape([rows, classes])
        };
        Self {
            student_logits: matrix(student_logits),
            teacher_logits: matrix(teacher_logits),
            distillation,
        }
    }

    /// Student logits and labels of the rows that are no padding, on the device of the logits. Reads their number.
    fn without_padding(&self) -> (Tensor<2>, Tensor<1, Int>) {
        let (logits, labels) = (&self.student_logits, &self.distillation.labels);
        let kept = labels
            .clone()
            .not_equal_scalar(self.distillation.ignore_index);
        let kept = kept.argwhere();
        let [rows, _] = kept.dims();
        if rows == labels.dims()[0] {
            return (logits.clone(), labels.clone());
        }
        let kept = kept.reshape([rows]);
        let logits = logits.clone().select(0, kept.clone());
        (logits, labels.clone().select(0, kept))
    }
}

impl ItemLazy for DistillationTrainOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        // Like Burn's outputs: submit the work and release the autodiff graph.
        self.distillation.loss.device().flush()?;
        Ok(Self {
            distillation: DistillationOutput {
                loss: self.distillation.loss.without_autodiff(),
                ..self.distillation
            },
            student_logits: self.student_logits.without_autodiff(),
            teacher_logits: self.teacher_logits.without_autodiff(),
        })
    }
}

impl Adaptor<DistillationInput> for DistillationTrainOutput {
    fn adapt(&self) -> DistillationInput {
        DistillationInput {
            distillation: self.distillation.clone(),
            student_logits: self.student_logits.clone(),
            teacher_logits: self.teacher_logits.clone(),
        }
    }
}

impl Adaptor<LossInput> for DistillationTrainOutput {
    fn adapt(&self) -> LossInput {
        LossInput::new(self.distillation.loss.clone())
    }
}

impl Adaptor<AccuracyInput> for DistillationTrainOutput {
    fn adapt(&self) -> AccuracyInput {
        let (logits, labels) = self.without_padding();
        AccuracyInput::new(logits, labels)
    }
}

impl Adaptor<TopKAccuracyInput> for DistillationTrainOutput {
    fn adapt(&self) -> TopKAccuracyInput {
        let (logits, labels) = self.without_padding();
        TopKAccuracyInput::new(logits, labels)
    }
}

impl Adaptor<PerplexityInput> for DistillationTrainOutput {
    fn adapt(&self) -> PerplexityInput {
        let (logits, labels) = self.without_padding();
        PerplexityInput::new(logits, labels)
    }
}

macro_rules! metric {
    ($(#[$doc:meta])* $name:ident, $title:literal, $description:literal, $unit:expr, $higher_is_better:literal, $read:expr) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            name: MetricName,
            state: NumericMetricState,
        }

        impl $name {
            /// A metric without values.
            pub fn new() -> Self {
                Self {
                    name: Arc::new($title.to_owned()),
                    state: NumericMetricState::default(),
                }
            }

            fn format(&self) -> FormatOptions {
                let options = FormatOptions::new(self.name()).precision(3);
                let unit: Option<&str> = $unit;
                match unit {
                    Some(unit) => options.unit(unit),
                    None => options,
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl Metric for $name {
            type Input = DistillationInput;

            fn name(&self) -> MetricName {
                self.name.clone()
            }

            fn description(&self) -> Option<String> {
                Some($description.to_owned())
            }

            fn attributes(&self) -> MetricAttributes {
                let unit: Option<&str> = $unit;
                NumericAttributes {
                    unit: unit.map(str::to_owned),
                    higher_is_better: $higher_is_better,
                }
                .into()
            }

            fn update(
                &mut self,
                input: &DistillationInput,
                _metadata: &MetricMetadata,
            ) -> Result<SerializedEntry, TensorReadError> {
                let read: fn(&DistillationInput) -> Result<(f64, usize), TensorReadError> = $read;
                let (value, count) = read(input)?;
                // A batch of ignored rows has no mean.
                if count > 0 {
                    self.state.update(value, count);
                }
                Ok(self.state.compute_update(self.format()))
            }

            fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
                Ok(self.state.compute_final(self.format()))
            }

            fn clear(&mut self) {
                self.state.reset();
            }
        }

        impl Numeric for $name {
            fn value(&self) -> Option<NumericEntry> {
                Some(self.state.current_value())
            }

            fn running_value(&self) -> Option<NumericEntry> {
                Some(self.state.running_value())
            }

            fn final_value(&self) -> NumericEntry {
                self.state.final_value()
            }
        }
    };
}

/// A mean over rows, `[1]`, and their number.
fn mean(value: &Tensor<1>, rows: Tensor<1, Int>) -> Result<(f64, usize), TensorReadError> {
    let value = value.clone().try_into_scalar::<f64>()?;
    Ok((value, count(rows)?))
}

fn count(rows: Tensor<1, Int>) -> Result<usize, TensorReadError> {
    let rows = rows.try_into_scalar::<i64>()?;
    Ok(usize::try_from(rows).unwrap_or(0))
}

metric!(
    /// The similarity of teacher and student (KDR), in `[0, 1]`: the mean over the rows with a class for label and finite logits.
    KdrMetric,
    "KDR",
    "similarity of teacher and student, 0 to 1",
    None,
    true,
    |input| mean(&input.distillation.kdr, input.distillation.averaged_rows())
);

metric!(
    /// The share of the true label in the target (TSSR), in `[0, 1]`: the mean over the rows with a class for label and finite logits.
    TssrMetric,
    "TSSR",
    "share of the true label in the target, 0 to 1",
    None,
    true,
    |input| mean(&input.distillation.tssr, input.distillation.averaged_rows())
);

metric!(
    /// The distillation loss of a row in nats: the mean over the rows that count, whatever the reduction and the size of the batch. Burn's
    /// `LossMetric` averages the losses of batches instead. NaN and infinite losses stay visible.
    DistillationLossMetric,
    "Distillation loss",
    "distillation loss of a row in nats, without padding",
    None,
    false,
    |input| {
        let out = &input.distillation;
        let sum = out.row_loss.clone().sum().try_into_scalar::<f64>()?;
        let (valid, averaged) = (count(out.valid_rows.clone())?, count(out.averaged_rows())?);
        // Rows without a finite result make the sum NaN, unless they are left out.
        let rows = if sum.is_nan() { valid.max(1) } else { averaged };
        Ok((sum / rows.max(1) as f64, rows))
    }
);

metric!(
    /// The share of rows in which student and teacher choose the same class, in percent, without padding. The teacher of sampled tokens chooses
    /// no class, and one that is a list names its classes elsewhere: leave this metric out.
    AgreementMetric,
    "Agreement",
    "rows in which student and teacher choose the same class",
    Some("%"),
    true,
    |input| {
        let out = &input.distillation;
        let choice = |logits: &Tensor<2>| logits.clone().argmax(1);
        let same = choice(&input.student_logits).equal(choice(&input.teacher_logits));
        let kept = out.labels.clone().not_equal_scalar(out.ignore_index);
        let [rows] = kept.dims();
        let same = same.reshape([rows]).bool_and(kept.clone());
        let same = same.int().sum().try_into_scalar::<f64>()?;
        let rows = count(kept.int().sum())?;
        Ok((100.0 * same / rows.max(1) as f64, rows))
    }
);
