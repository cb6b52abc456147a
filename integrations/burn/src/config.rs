//! The configuration of the loss, in Burn's conventions.

use std::fmt;

use burn::config::{Config, config_to_json};
use burn::serde::{
    Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _,
};
use serde_json::Value;
use wgpu_distill::{
    ClassWeighting, Divergence, GradWrite, HardTemperature, MaskedClasses, NonFinite, Reduction,
    Scope, Selection, Similarity, SmoothedClasses, Standardization, TeacherClasses, TeacherTail,
    TemperatureScaling, TssrGradient,
};

use crate::error::Error;
use crate::linear::LinearDistillationLoss;
use crate::loss::DistillationLoss;

/// Configuration of a [`DistillationLoss`], saved and loaded like Burn's configurations.
///
/// It embeds [`wgpu_distill::Config`], whose fields it saves, with `grad_loss` under its name here, `grad_scale`, and beside them
/// `pad_tokens`. A file of an earlier version, with fewer fields, loads with their defaults. A field that this version does not know is an
/// error. The defaults are the method as published, at temperature 1.
///
/// ```
/// use burn_distill::{DistillationLossConfig, Selection};
/// use burn_distill::wgpu_distill::Config;
///
/// let config = DistillationLossConfig::new()
///     .with_student_temperature(2.0)
///     .with_selection(Selection::Product);
///
/// // The same, from a configuration of wgpu-distill.
/// let core = Config {
///     student_temperature: 2.0,
///     selection: Selection::Product,
///     ..Config::default()
/// };
/// assert_eq!(config, DistillationLossConfig::from(core));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DistillationLossConfig {
    /// The configuration of wgpu-distill.
    ///
    /// Two of its fields have a meaning of their own here. `grad_loss` is the scale of the gradient between forward and backward: see
    /// [`with_grad_scale`](Self::with_grad_scale). `grad_write` must be `Overwrite`, since Burn allocates each gradient.
    pub core: wgpu_distill::Config,
    /// Labels that stand for padding, besides `ignore_index`: see [`with_pad_tokens`](Self::with_pad_tokens).
    pub pad_tokens: Vec<i32>,
}

impl Serialize for DistillationLossConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let core = serde_json::to_value(self.core).map_err(S::Error::custom)?;
        let mut fields = match core {
            Value::Object(fields) => fields,
            other => return Err(S::Error::custom(format!("{other} has no fields"))),
        };
        if let Some(scale) = fields.remove("grad_loss") {
            fields.insert("grad_scale".to_owned(), scale);
        }
        fields.insert("pad_tokens".to_owned(), self.pad_tokens.clone().into());
        fields.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DistillationLossConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = serde_json::Map::deserialize(deserializer)?;
        let pad_tokens = fields.remove("pad_tokens").map(serde_json::from_value);
        let core = serde_json::from_value(Value::Object(fields));
        Ok(Self {
            core: core.map_err(D::Error::custom)?,
            pad_tokens: pad_tokens
                .transpose()
                .map_err(D::Error::custom)?
                .unwrap_or_default(),
        })
    }
}

impl Config for DistillationLossConfig {}

impl fmt::Display for DistillationLossConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&config_to_json(self))
    }
}

impl From<wgpu_distill::Config> for DistillationLossConfig {
    fn from(core: wgpu_distill::Config) -> Self {
        Self {
            core,
            pad_tokens: Vec::new(),
        }
    }
}

macro_rules! setters {
    ($($(#[doc = $doc:literal])* $setter:ident($field:ident: $kind:ty);)*) => {
        impl DistillationLossConfig {
            $($(#[doc = $doc])*
            pub fn $setter(mut self, $field: $kind) -> Self {
                self.core.$field = $field;
                self
            })*
        }

        /// The fields of the core that have a setter.
        #[cfg(test)]
        const WITH_SETTER: &[&str] = &[$(stringify!($field)),*];
    };
}

setters! {
    /// Divides the student's logits. Default 1.
    with_student_temperature(student_temperature: f32);
    /// Divides the teacher's logits. Default 1.
    with_teacher_temperature(teacher_temperature: f32);
    /// Multiplies loss and gradient by both temperatures, or by neither. Default: neither.
    with_temperature_scaling(temperature_scaling: TemperatureScaling);
    /// Standardises each row's logits before the temperatures divide them, or leaves them as they are. Default: leaves them.
    with_standardization(standardization: Standardization);
    /// The soft part of the loss. Default: the cross-entropy with the teacher's probabilities.
    with_divergence(divergence: Divergence);
    /// Multiplies the soft part, besides its share `1 - TSSR`. 0, or between 1e-6 and 1e6. Default 1.
    with_soft_weight(soft_weight: f32);
    /// Multiplies the hard part, besides its share TSSR. 0, or between 1e-6 and 1e6. Default 1.
    with_hard_weight(hard_weight: f32);
    /// The temperature of the hard part. Default: the student's.
    with_hard_temperature(hard_temperature: HardTemperature);
    /// The weight of the square of the student's log-sum-exp. 0, or between 1e-9 and 1e3. Default 0.
    with_z_loss(z_loss: f32);
    /// Detaches TSSR from the gradient or attaches it. Default: detached.
    with_tssr_gradient(tssr_gradient: TssrGradient);
    /// The similarity of the two distributions (KDR). Default: cosine.
    with_similarity(similarity: Similarity);
    /// Selects the share of the true label (TSSR) from progress (TSTR) and KDR. Default: the smaller of the two.
    with_selection(selection: Selection);
    /// The parts of the loss that class weights multiply. Default: the hard part.
    with_class_weighting(class_weighting: ClassWeighting);
    /// The teacher's probability off the list of [`DistillationBatch::top_k`](crate::DistillationBatch::top_k). Default: one more class.
    with_teacher_tail(teacher_tail: TeacherTail);
    /// The rows whose KDR selects a row's TSSR. Default: the row itself.
    with_scope(scope: Scope);
    /// Reduces the losses of the rows. Default: the mean over the rows whose label is a class. `None` gives one loss per row.
    with_reduction(reduction: Reduction);
    /// The share of the true label's probability that is spread over all classes, in `[0, 1)`. Default 0.
    with_label_smoothing(label_smoothing: f32);
    /// The classes over which the label is smoothed: all, or those that the student does not mask. Default: all.
    with_smoothed_classes(smoothed_classes: SmoothedClasses);
    /// The least and the greatest loss of a row; outside, the bound is its loss and its gradient is 0. Default: no bounds.
    with_loss_clamp(loss_clamp: Option<[f32; 2]>);
    /// Rows with this label have loss 0 and gradient 0 and are not counted. Default -100.
    with_ignore_index(ignore_index: i32);
    /// Propagates rows without a finite result as NaN or leaves them out. Default: propagates.
    with_non_finite(non_finite: NonFinite);
    /// Refuses or accepts a teacher with another number of classes. Default: refuses it.
    with_teacher_classes(teacher_classes: TeacherClasses);
    /// The classes that are masked: each side's own, or those of both, such as where the vocabularies are padded to different sizes. Default:
    /// each side's own.
    with_masked_classes(masked_classes: MaskedClasses);
    /// The scale of the gradient between forward and backward: forward multiplies the gradient by it, backward divides by it. Between 1e-30
    /// and 1e30, also divided by the student's temperature. Default 1.
    ///
    /// Small gradients of 16-bit logits then do not underflow. With loss scaling, set it to the loss scale (a power of two). It does not
    /// change the gradient that the logits get, except by rounding; multiply the loss for that. wgpu-distill calls it
    /// `grad_loss`.
    with_grad_scale(grad_loss: f32);
}

impl DistillationLossConfig {
    /// The default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Labels that stand for padding, besides `ignore_index`: their rows have loss 0 and gradient 0 and are not counted. Default: none.
    ///
    /// A pad token may be a class. The metrics of this crate leave the same rows out, so that no other place needs the tokens.
    pub fn with_pad_tokens(mut self, pad_tokens: Vec<i32>) -> Self {
        self.pad_tokens = pad_tokens;
        self
    }

    /// Replaces the whole configuration of wgpu-distill, for example by one of its presets.
    pub fn with_core(mut self, core: wgpu_distill::Config) -> Self {
        self.core = core;
        self
    }

    /// Initializes the [loss](DistillationLoss).
    ///
    /// # Panics
    /// If [`try_init`](Self::try_init) returns an error, with its text.
    pub fn init(&self) -> DistillationLoss {
        self.try_init().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Initializes the [loss](DistillationLoss).
    ///
    /// # Errors
    /// [`Error::Distill`], [`Error::GradScale`] or [`Error::GradWrite`] for a field outside its range. The text names the field, its value
    /// and the range.
    pub fn try_init(&self) -> Result<DistillationLoss, Error> {
        let core = &self.core;
        // The backward multiplies by the reciprocal, which must be a normal number as well.
        if !(1e-30..=1e30).contains(&core.grad_loss) {
            return Err(Error::GradScale {
                value: core.grad_loss,
            });
        }
        if core.grad_write != GradWrite::Overwrite {
            return Err(Error::GradWrite {
                value: core.grad_write,
            });
        }
        DistillationLoss::new(*core, self.pad_tokens.clone())
    }

    /// Initializes the [loss from hidden states](LinearDistillationLoss), whose logits are never in memory whole.
    ///
    /// # Panics
    /// If [`try_init_linear`](Self::try_init_linear) returns an error, with its text.
    pub fn init_linear(&self) -> LinearDistillationLoss {
        self.init().into()
    }

    /// Initializes the [loss from hidden states](LinearDistillationLoss).
    ///
    /// # Errors
    /// As [`try_init`](Self::try_init).
    pub fn try_init_linear(&self) -> Result<LinearDistillationLoss, Error> {
        Ok(self.try_init()?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::{DistillationLossConfig, WITH_SETTER};

    /// The saved form names every field of the core, so that a new field without a setter fails here.
    #[test]
    fn every_field_has_a_setter_or_no_meaning_in_burn() {
        let saved = serde_json::to_value(DistillationLossConfig::new()).expect("it is saved");
        let saved = saved.as_object().expect("a structure").keys();
        let without: Vec<_> = saved
            .filter(|field| !WITH_SETTER.contains(&field.as_str()))
            .filter(|field| !["grad_scale", "pad_tokens"].contains(&field.as_str()))
            .collect();
        // Burn allocates each gradient.
        assert_eq!(without, ["grad_write"]);
    }
}
