//! The configuration, after Burn's conventions.

use burn::config::Config;
use wgpu_distill::{Reduction, Scope, Selection, Similarity, TeacherClasses, TemperatureScaling};

use crate::{DistillationLoss, Error, Result};

/// Configuration of a [`DistillationLoss`], saved and loaded like any of Burn's. The defaults are the method as published, at temperature 1.
#[derive(Config, Debug, PartialEq)]
pub struct DistillationLossConfig {
    /// The student's logits are divided by it. Default 1.
    #[config(default = 1.0)]
    pub student_temperature: f32,
    /// The teacher's logits are divided by it. Default 1.
    #[config(default = 1.0)]
    pub teacher_temperature: f32,
    /// Whether loss and gradient are multiplied by both temperatures. Default: no.
    #[config(default = "TemperatureScaling::None")]
    pub temperature_scaling: TemperatureScaling,
    /// How the likeness of the two distributions (KDR) is measured. Default: cosine.
    #[config(default = "Similarity::Cosine")]
    pub similarity: Similarity,
    /// How the share of the true label (TSSR) follows from progress and KDR. Default: the smaller of the two.
    #[config(default = "Selection::Min")]
    pub selection: Selection,
    /// Whose KDR selects a row's TSSR. Default: each row its own.
    #[config(default = "Scope::Row")]
    pub scope: Scope,
    /// How the rows' losses become one. Default: their mean over the rows whose label is a class. `None` gives one loss a row.
    #[config(default = "Reduction::Mean")]
    pub reduction: Reduction,
    /// The share of the true label that is spread over all classes, in `[0, 1)`. Default 0.
    #[config(default = 0.0)]
    pub label_smoothing: f32,
    /// Rows with this label count for nothing. Default -100.
    #[config(default = "-100")]
    pub ignore_index: i32,
    /// What to do with a teacher of another number of classes. Default: refuse it.
    #[config(default = "TeacherClasses::SameAsStudent")]
    pub teacher_classes: TeacherClasses,
    /// The gradient is computed and kept times this number, which the backward takes out again. Default 1.
    ///
    /// For 16-bit logits trained with a loss scale: set it to that scale (a power of two), and small gradients do not
    /// underflow between forward and backward.
    #[config(default = 1.0)]
    pub grad_scale: f32,
}

impl DistillationLossConfig {
    /// Initialize the [loss](DistillationLoss).
    ///
    /// # Panics
    /// If a field holds a value outside its range, as Burn's own losses do. [`try_init`](Self::try_init) does not.
    pub fn init(&self) -> DistillationLoss {
        self.try_init().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Initialize the [loss](DistillationLoss).
    ///
    /// # Errors
    /// [`Error::Distill`] names the field, its value and what is expected; [`Error::GradScale`].
    pub fn try_init(&self) -> Result<DistillationLoss> {
        if !(self.grad_scale.is_finite() && self.grad_scale > 0.0) {
            return Err(Error::GradScale {
                value: self.grad_scale,
            });
        }
        DistillationLoss::new(self.core())
    }

    /// The same in the words of the kernels' crate.
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
