//! The configuration of the loss, in Burn's conventions.

use burn::config::Config;
use wgpu_distill::{Reduction, Scope, Selection, Similarity, TeacherClasses, TemperatureScaling};

use crate::error::{Error, Result};
use crate::loss::DistillationLoss;

/// Configuration of a [`DistillationLoss`], saved and loaded like Burn's configurations. The defaults are the method as
/// published, at temperature 1.
#[derive(Config, Debug, PartialEq)]
pub struct DistillationLossConfig {
    /// Divides the student's logits. Default 1.
    #[config(default = 1.0)]
    pub student_temperature: f32,
    /// Divides the teacher's logits. Default 1.
    #[config(default = 1.0)]
    pub teacher_temperature: f32,
    /// Multiplies loss and gradient by both temperatures, or by neither. Default: neither.
    #[config(default = "TemperatureScaling::None")]
    pub temperature_scaling: TemperatureScaling,
    /// The similarity of the two distributions (KDR). Default: cosine.
    #[config(default = "Similarity::Cosine")]
    pub similarity: Similarity,
    /// Selects the share of the true label (TSSR) from progress (TSTR) and KDR. Default: the smaller of the two.
    #[config(default = "Selection::Min")]
    pub selection: Selection,
    /// The rows whose KDR selects a row's TSSR. Default: the row itself.
    #[config(default = "Scope::Row")]
    pub scope: Scope,
    /// Reduces the losses of the rows. Default: the mean over the rows whose label is a class. `None` gives one loss per row.
    #[config(default = "Reduction::Mean")]
    pub reduction: Reduction,
    /// The share of the true label's probability that is spread over all classes, in `[0, 1)`. Default 0.
    #[config(default = 0.0)]
    pub label_smoothing: f32,
    /// Rows with this label have loss 0 and gradient 0 and are not counted. Default -100.
    #[config(default = "-100")]
    pub ignore_index: i32,
    /// Refuses or accepts a teacher with another number of classes. Default: refuses it.
    #[config(default = "TeacherClasses::SameAsStudent")]
    pub teacher_classes: TeacherClasses,
    /// Forward multiplies the gradient by it; backward divides by it. Between 1e-30 and 1e30, also divided by the student's temperature. Default 1.
    ///
    /// Small gradients of 16-bit logits then do not underflow. With loss scaling, set it to the loss scale (a power of two).
    /// Errors of wgpu-distill call it `grad_loss`.
    #[config(default = 1.0)]
    pub grad_scale: f32,
}

impl DistillationLossConfig {
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
    /// [`Error::Distill`] or [`Error::GradScale`] for a field outside its range. The text names the field, its value and the range.
    pub fn try_init(&self) -> Result<DistillationLoss> {
        // The backward multiplies by the reciprocal, which must be a normal number as well.
        if !(1e-30..=1e30).contains(&self.grad_scale) {
            return Err(Error::GradScale {
                value: self.grad_scale,
            });
        }
        DistillationLoss::new(self.core())
    }

    /// The configuration as wgpu-distill takes it. Burn allocates each gradient, so that `grad_write` is always `Overwrite`.
    fn core(&self) -> wgpu_distill::Config {
        wgpu_distill::Config {
            student_temperature: self.student_temperature,
            teacher_temperature: self.teacher_temperature,
            temperature_scaling: self.temperature_scaling,
            similarity: self.similarity,
            selection: self.selection,
            scope: self.scope,
            reduction: self.reduction,
            label_smoothing: self.label_smoothing,
            ignore_index: self.ignore_index,
            teacher_classes: self.teacher_classes,
            grad_loss: self.grad_scale,
            ..wgpu_distill::Config::default()
        }
    }
}
