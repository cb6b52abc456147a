//! The choices of a configuration as functions on Burn's tensors, or a refusal by name.

use std::f32::consts::LN_2;
use std::fmt::Display;

use burn::tensor::Tensor;
use wgpu_distill::{
    ClassWeighting, Config, HardTemperature, MaskedClasses, NonFinite, Reduction, Scope, Selection,
    Similarity,
};

use super::soft_part::{self, SoftRule};
use super::softmax::{Softmax, mixture, product};
use super::sums::over_classes;
use crate::error::{Error, Result};

type Map<const D: usize> = Box<dyn Fn(Tensor<D>) -> Tensor<D>>;

/// Each choice of a configuration, as the function that computes it. Columns are `[rows, 1]`.
pub(crate) struct Choices {
    /// KDR from the softmax of student and teacher.
    pub(super) similarity: fn(&Softmax, &Softmax) -> Tensor<2>,
    /// The KDR that selects, from each row's KDR and the mean in each row.
    pub(super) scope: Box<dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>>,
    /// TSSR from TSTR and the KDR that selects.
    pub(super) selection: Box<dyn Fn(f32, Tensor<2>) -> Tensor<2>>,
    /// The soft part from the softmax of student and teacher.
    pub(super) soft: SoftRule,
    pub(super) hard: Hard,
    pub(super) weighted: WeightedParts,
    /// A class that either side masks is masked in both.
    pub(super) joins_masks: bool,
    /// Rows without a finite result are left out.
    pub(super) skips: bool,
    /// The divisor of the sum of the losses from the number of valid rows, both `[1]`.
    pub(super) denominator: Map<1>,
}

/// The hard part's own temperature, if it has one, and its factors in loss and gradient before reduction, without its share TSSR.
pub(super) struct Hard {
    pub temperature: Option<f32>,
    pub loss_factor: f64,
    pub gradient_factor: f64,
}

/// The parts of the loss that the weights of classes multiply.
pub(super) struct WeightedParts {
    pub hard: bool,
    pub soft: bool,
}

impl Choices {
    /// The functions, or an error that names the first choice without one.
    pub fn of(config: &Config) -> Result<Self> {
        check_fields(config)?;
        Ok(Self {
            similarity: similarity(config.similarity)?,
            scope: scope(config.scope)?,
            selection: selection(config.selection)?,
            soft: soft_part::rule(config.divergence)
                .ok_or_else(|| refusal("divergence", config.divergence))?,
            hard: hard(config)?,
            weighted: match config.class_weighting {
                ClassWeighting::Hard => WeightedParts {
                    hard: true,
                    soft: false,
                },
                ClassWeighting::Soft => WeightedParts {
                    hard: false,
                    soft: true,
                },
                ClassWeighting::Both => WeightedParts {
                    hard: true,
                    soft: true,
                },
                other => return Err(refusal("class_weighting", format!("{other:?}"))),
            },
            joins_masks: match config.masked_classes {
                MaskedClasses::Each => false,
                MaskedClasses::Both => true,
                other => return Err(refusal("masked_classes", format!("{other:?}"))),
            },
            skips: match config.non_finite {
                NonFinite::Propagate => false,
                NonFinite::Skip => true,
                other => return Err(refusal("non_finite", format!("{other:?}"))),
            },
            denominator: denominator(config.reduction)?,
        })
    }
}

fn refusal(field: &str, value: impl Display) -> Error {
    Error::NotComposed {
        field: field.to_owned(),
        value: value.to_string(),
    }
}

/// Refuses a value other than the default in any field that these operations do not read: later versions of the core may add fields.
fn check_fields(config: &Config) -> Result<()> {
    let default = Config::default();
    let unread = Config {
        student_temperature: default.student_temperature,
        teacher_temperature: default.teacher_temperature,
        temperature_scaling: default.temperature_scaling,
        divergence: default.divergence,
        soft_weight: default.soft_weight,
        hard_weight: default.hard_weight,
        hard_temperature: default.hard_temperature,
        z_loss: default.z_loss,
        similarity: default.similarity,
        selection: default.selection,
        class_weighting: default.class_weighting,
        scope: default.scope,
        reduction: default.reduction,
        label_smoothing: default.label_smoothing,
        ignore_index: default.ignore_index,
        non_finite: default.non_finite,
        grad_loss: default.grad_loss,
        teacher_classes: default.teacher_classes,
        masked_classes: default.masked_classes,
        // Refused on every path.
        grad_write: default.grad_write,
        ..*config
    };
    if unread == default {
        return Ok(());
    }
    let saved = |config: &Config| serde_json::to_value(config).unwrap_or_default();
    let (unread, default) = (saved(&unread), saved(&default));
    let mut fields = unread.as_object().into_iter().flatten();
    let changed = fields.find(|(field, value)| default.get(field.as_str()) != Some(value));
    Err(match changed {
        Some((field, serde_json::Value::String(name))) => refusal(field, name),
        Some((field, value)) => refusal(field, value),
        None => refusal("configuration", format!("{config:?}")),
    })
}

/// Returns true if KDR needs the distances of student and teacher.
pub(super) fn similarity_needs_distances(choice: Similarity) -> bool {
    !matches!(choice, Similarity::Cosine | Similarity::Overlap)
}

fn similarity(choice: Similarity) -> Result<fn(&Softmax, &Softmax) -> Tensor<2>> {
    Ok(match choice {
        Similarity::Cosine => |p, q| {
            // The normalisers of the probabilities cancel.
            let square = |x: &Tensor<2>| over_classes(x.clone() * x.clone());
            let squares = square(&p.powers) * square(&q.powers);
            over_classes(p.powers.clone() * q.powers.clone()) / squares.sqrt()
        },
        Similarity::Bhattacharyya => |p, q| over_classes(((p.log() + q.log()) * 0.5).exp()),
        Similarity::ExpNegKl => |p, q| {
            let terms = product(q.probabilities(), q.log() - p.log());
            over_classes(terms).clamp_min(0.0).neg().exp()
        },
        Similarity::JensenShannon => |p, q| {
            let (a, b) = (p.probabilities(), q.probabilities());
            let ln_mean = mixture(0.5, a.clone(), b.clone()).log();
            let student = product(a, p.log() - ln_mean.clone());
            let teacher = product(b, q.log() - ln_mean);
            over_classes(student + teacher) * (-0.5 / LN_2) + 1.0
        },
        Similarity::Overlap => |p, q| over_classes(p.probabilities().min_pair(q.probabilities())),
        other => return Err(refusal("similarity", other)),
    })
}

fn scope(choice: Scope) -> Result<Box<dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>>> {
    Ok(match choice {
        Scope::Row => Box::new(|row, _| row),
        Scope::Batch => Box::new(|_, mean| mean),
        Scope::Given(kdr) => Box::new(move |row, _| row.zeros_like() + kdr),
        other => return Err(refusal("scope", format!("{other:?}"))),
    })
}

fn selection(choice: Selection) -> Result<Box<dyn Fn(f32, Tensor<2>) -> Tensor<2>>> {
    Ok(match choice {
        Selection::Max => Box::new(|tstr, kdr| kdr.clamp_min(tstr)),
        Selection::Min => Box::new(|tstr, kdr| kdr.clamp_max(tstr)),
        Selection::Mean => Box::new(|tstr, kdr| (kdr + tstr) * 0.5),
        Selection::Product => Box::new(|tstr, kdr| kdr * tstr),
        Selection::Tstr => Box::new(|tstr, kdr| kdr.zeros_like() + tstr),
        Selection::Kdr => Box::new(|_, kdr| kdr),
        Selection::Fixed(share) => Box::new(move |_, kdr| kdr.zeros_like() + share),
        other => return Err(refusal("selection", other)),
    })
}

fn hard(config: &Config) -> Result<Hard> {
    let weight = f64::from(config.hard_weight);
    Ok(match config.hard_temperature {
        HardTemperature::Student => Hard {
            temperature: None,
            loss_factor: weight * config.temperature_factor(),
            gradient_factor: weight * config.gradient_factor(),
        },
        HardTemperature::Own(temperature) => Hard {
            temperature: Some(temperature),
            loss_factor: weight,
            gradient_factor: weight * f64::from(config.grad_loss) / f64::from(temperature),
        },
        other => return Err(refusal("hard_temperature", format!("{other:?}"))),
    })
}

fn denominator(choice: Reduction) -> Result<Map<1>> {
    Ok(match choice {
        Reduction::None | Reduction::Sum | Reduction::SumOver(0.0) => {
            Box::new(|valid_rows| valid_rows.ones_like())
        }
        Reduction::Mean => Box::new(|valid_rows| valid_rows.clamp_min(1.0)),
        Reduction::SumOver(denominator) => {
            Box::new(move |valid_rows| valid_rows.zeros_like() + denominator)
        }
        other => return Err(refusal("reduction", format!("{other:?}"))),
    })
}
