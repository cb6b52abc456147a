//! Metrics for Burn's learner and its dashboard.

use std::sync::Arc;

use burn::backend::ExecutionError;
use burn::tensor::{Int, Tensor, TensorReadError};
use burn::train::ItemLazy;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    AccuracyInput, Adaptor, LossInput, Metric, MetricAttributes, MetricMetadata, MetricName,
    Numeric, NumericAttributes, NumericEntry, SerializedEntry,
};

use crate::DistillationOutput;

/// The input of [`KdrMetric`], [`TssrMetric`] and [`AgreementMetric`] for one step.
#[derive(Clone, Debug)]
pub struct DistillationInput {
    /// Mean KDR of the batch, `[1]`.
    pub kdr: Tensor<1>,
    /// Mean TSSR of the batch, `[1]`.
    pub tssr: Tensor<1>,
    /// The number of rows in the means, `[1]`: rows whose label is a class and whose logits are finite.
    pub averaged_rows: Tensor<1, Int>,
    /// `[rows, classes]`
    pub student_logits: Tensor<2>,
    /// `[rows, classes]`
    pub teacher_logits: Tensor<2>,
}

/// The output of a training step, for the metrics of this crate and for Burn's loss and accuracy.
/// The counterpart of Burn's `ClassificationOutput`.
#[derive(Clone, Debug)]
pub struct DistillationTrainOutput {
    /// The loss with its metrics.
    pub distillation: DistillationOutput,
    /// `[rows, classes]`
    pub student_logits: Tensor<2>,
    /// `[rows, classes]`
    pub teacher_logits: Tensor<2>,
    /// `[rows]`
    pub labels: Tensor<1, Int>,
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
            labels: self.labels.without_autodiff(),
        })
    }
}

impl Adaptor<DistillationInput> for DistillationTrainOutput {
    fn adapt(&self) -> DistillationInput {
        DistillationInput {
            kdr: self.distillation.kdr.clone(),
            tssr: self.distillation.tssr.clone(),
            averaged_rows: self.distillation.averaged_rows(),
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
        AccuracyInput::new(self.student_logits.clone(), self.labels.clone())
    }
}

macro_rules! metric {
    ($(#[$doc:meta])* $name:ident, $title:literal, $description:literal, $unit:expr, $read:expr) => {
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
                    higher_is_better: true,
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

fn mean(value: &Tensor<1>, rows: &Tensor<1, Int>) -> Result<(f64, usize), TensorReadError> {
    let value = value.clone().try_into_scalar::<f64>()?;
    let rows = rows.clone().try_into_scalar::<i64>()?;
    Ok((value, usize::try_from(rows).unwrap_or(0)))
}

metric!(
    /// The similarity of teacher and student (KDR), in `[0, 1]`.
    KdrMetric,
    "KDR",
    "similarity of teacher and student, 0 to 1",
    None,
    |input| mean(&input.kdr, &input.averaged_rows)
);

metric!(
    /// The share of the true label in the target (TSSR), in `[0, 1]`.
    TssrMetric,
    "TSSR",
    "share of the true label in the target, 0 to 1",
    None,
    |input| mean(&input.tssr, &input.averaged_rows)
);

metric!(
    /// The share of rows in which student and teacher choose the same class, in percent. Includes ignored rows. The teacher of sampled tokens
    /// chooses no class: leave this metric out.
    AgreementMetric,
    "Agreement",
    "rows in which student and teacher choose the same class",
    Some("%"),
    |input| {
        let [rows, _] = input.student_logits.dims();
        let choice = |logits: &Tensor<2>| logits.clone().argmax(1);
        let same = choice(&input.student_logits).equal(choice(&input.teacher_logits));
        let same = same.int().sum().try_into_scalar::<f64>()?;
        Ok((100.0 * same / rows.max(1) as f64, rows))
    }
);
