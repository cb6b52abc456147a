//! The parameters of a dispatch, twin of `shaders/include/params.wgsl`.

use std::f64::consts::LOG2_E;

use bytemuck::{Pod, Zeroable};

use crate::{Config, NonFinite, Progress, Reduction, Scope, rule};

/// The uniform buffer of every kernel. All offsets and strides are in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "described where the shader declares them")]
pub struct Params {
    pub rows: u32,
    pub classes: u32,
    pub teacher_classes: u32,
    pub workgroups: u32,
    pub student_offset: u32,
    pub student_stride: u32,
    pub teacher_offset: u32,
    pub teacher_stride: u32,
    pub grad_offset: u32,
    pub grad_stride: u32,
    pub label_offset: u32,
    pub result_offset: u32,
    pub weight_offset: u32,
    pub decision_offset: u32,
    pub partial_offset: u32,
    pub partials: u32,
    pub student_log2: f32,
    pub teacher_log2: f32,
    pub student_inverse: f32,
    pub tstr: f32,
    pub selection: u32,
    pub selection_number: f32,
    pub given_kdr: f32,
    pub smoothing: f32,
    pub soft_loss_factor: f32,
    pub soft_grad_factor: f32,
    pub denominator: f32,
    pub scope: u32,
    pub counts_rows: u32,
    pub count_labels: u32,
    pub ignore_index: i32,
    pub checked_from_bits: u32,
    pub write_results: u32,
    pub infinity_bits: u32,
    pub nan_bits: u32,
    pub segments: u32,
    pub segment_vectors: u32,
    pub label_classes: u32,
    pub hard_loss_factor: f32,
    pub hard_grad_factor: f32,
    pub hard_log2: f32,
    pub hard_inverse: f32,
    pub hard_ratio: f32,
    pub z_loss: f32,
    pub z_grad_factor: f32,
    pub rule_first: f32,
    pub rule_second: f32,
    pub shape_first: f32,
    pub shape_second: f32,
    pub grad_loss: f32,
    pub teacher_hard_ratio: f32,
    pub skip_non_finite: u32,
    pub counts: u32,
    pub loss_least: f32,
    pub loss_greatest: f32,
    pub clamps_loss: u32,
    pub class_weight_offset: u32,
    pub soft_label_offset: u32,
    pub soft_label_stride: u32,
    pub id_offset: u32,
    pub label_words: u32,
    pub first_class: u32,
    pub all_classes: u32,
    pub record_offset: u32,
    pub record_stride: u32,
}

/// Bits of the magnitude from which logits take the checked path. The difference of two smaller logits, over the temperature, cannot overflow.
pub(crate) fn checked_from_bits(config: &Config) -> u32 {
    let smallest = config.student_temperature.min(config.teacher_temperature);
    (1e36 * smallest).min(1e18).to_bits()
}

/// Labels below this number are classes. It is 0 if the denominator is 0, because then no row has a label.
pub(crate) fn label_classes(config: &Config, classes: usize) -> u32 {
    match config.reduction {
        Reduction::SumOver(0.0) => 0,
        _ => classes as u32,
    }
}

impl Params {
    /// The parameters that follow from configuration and progress. Shape and offsets are 0.
    pub fn of(config: &Config, progress: Progress) -> Self {
        let [selection_number, _] = config.selection.numbers();
        let [loss_least, loss_greatest] = config.loss_clamp.unwrap_or_default();
        let (scope, given_kdr) = match config.scope {
            Scope::Row => (0, 0.0),
            Scope::Batch => (1, 0.0),
            Scope::Given(kdr) => (2, kdr),
        };
        let (counts_rows, denominator) = match config.reduction {
            Reduction::None | Reduction::Sum => (0, 1.0),
            Reduction::Mean => (1, 1.0),
            Reduction::SumOver(0.0) => (0, 1.0),
            Reduction::SumOver(d) => (0, d),
        };
        let student = f64::from(config.student_temperature);
        let teacher = f64::from(config.teacher_temperature);
        let hard = config.label_temperature();
        let (hard_loss_factor, hard_grad_factor) = config.hard_factors();
        let [rule_first, rule_second] = config.divergence.numbers();
        let (_, [shape_first, shape_second]) = rule::shape(config);
        Self {
            student_log2: (LOG2_E / student) as f32,
            teacher_log2: (LOG2_E / teacher) as f32,
            student_inverse: (1.0 / student) as f32,
            tstr: progress.tstr(),
            selection: config.selection.index(),
            selection_number,
            given_kdr,
            smoothing: config.label_smoothing,
            soft_loss_factor: (f64::from(config.soft_weight) * config.temperature_factor()) as f32,
            soft_grad_factor: (f64::from(config.soft_weight) * config.gradient_factor()) as f32,
            hard_loss_factor: hard_loss_factor as f32,
            hard_grad_factor: hard_grad_factor as f32,
            hard_log2: (LOG2_E / hard) as f32,
            hard_inverse: (1.0 / hard) as f32,
            hard_ratio: (student / hard) as f32,
            z_loss: config.z_loss,
            z_grad_factor: config.z_gradient_factor() as f32,
            rule_first,
            rule_second,
            shape_first,
            shape_second,
            grad_loss: config.grad_loss,
            teacher_hard_ratio: (teacher / hard) as f32,
            skip_non_finite: u32::from(config.non_finite == NonFinite::Skip),
            loss_least,
            loss_greatest,
            clamps_loss: u32::from(config.loss_clamp.is_some()),
            denominator,
            scope,
            counts_rows,
            ignore_index: config.ignore_index,
            checked_from_bits: checked_from_bits(config),
            infinity_bits: f32::INFINITY.to_bits(),
            nan_bits: 0x7fc0_0000,
            segments: 1,
            segment_vectors: u32::MAX,
            ..Self::default()
        }
    }

    /// The numbers of a configuration and progress, with the shape and the offsets of `self`.
    pub(crate) fn with_numbers_of(&self, numbers: &Self) -> Self {
        Self {
            rows: self.rows,
            classes: self.classes,
            teacher_classes: self.teacher_classes,
            workgroups: self.workgroups,
            student_offset: self.student_offset,
            student_stride: self.student_stride,
            teacher_offset: self.teacher_offset,
            teacher_stride: self.teacher_stride,
            grad_offset: self.grad_offset,
            grad_stride: self.grad_stride,
            label_offset: self.label_offset,
            result_offset: self.result_offset,
            weight_offset: self.weight_offset,
            decision_offset: self.decision_offset,
            partial_offset: self.partial_offset,
            partials: self.partials,
            count_labels: self.count_labels,
            write_results: self.write_results,
            segments: self.segments,
            segment_vectors: self.segment_vectors,
            counts: self.counts,
            class_weight_offset: self.class_weight_offset,
            soft_label_offset: self.soft_label_offset,
            soft_label_stride: self.soft_label_stride,
            id_offset: self.id_offset,
            label_words: self.label_words,
            first_class: self.first_class,
            all_classes: self.all_classes,
            record_offset: self.record_offset,
            record_stride: self.record_stride,
            ..*numbers
        }
    }
}
