//! Checks of the weights of classes.

use crate::rule::ClassWeights;
use crate::{
    Batch, Config, Divergence, Error, Result, Similarity, SmoothedClasses, Standardization,
    TssrGradient,
};

/// The largest weight of a class. The kernels have its bits.
const MOST: f32 = 1e6;

/// Checks that a batch has a weight for each class, in parts of the loss that can have them.
pub(super) fn of_batch(config: &Config, batch: &Batch<'_>) -> Result<()> {
    let Some(weights) = batch.class_weights else {
        return Ok(());
    };
    class_weighting(config)?;
    let (classes, got) = (batch.classes(), weights.len());
    match got == classes {
        true => Ok(()),
        false => Err(Error::ClassWeightCount { classes, got }),
    }
}

/// Refuses weights out of range.
pub(super) fn range(batch: &Batch<'_>) -> Result<()> {
    let weights = batch.class_weights.unwrap_or_default();
    match weights.iter().position(|v| !(0.0..=MOST).contains(v)) {
        None => Ok(()),
        Some(class) => Err(Error::ClassWeight {
            class,
            weight: weights[class],
        }),
    }
}

/// Checks a configuration with weights of classes.
pub(crate) fn class_weighting(config: &Config) -> Result<()> {
    let weights = ClassWeights::of(config);
    let refuse = |what: String, why| Err(Error::Unsupported { what, why });
    if weights.soft && config.divergence != Divergence::SoftCrossEntropy {
        return refuse(
            format!(
                "class weights in the soft part with the divergence `{}`",
                config.divergence
            ),
            "only the terms of `SoftCrossEntropy` have weights; use it, or `ClassWeighting::Hard`",
        );
    }
    if weights.soft
        && config.tssr_gradient == TssrGradient::Attached
        && config.similarity == Similarity::ExpNegKl
    {
        return refuse(
            "class weights in the soft part with `TssrGradient::Attached` and the similarity `ExpNegKl`"
                .to_owned(),
            "the similarity's gradient has terms of the teacher without weights; use `Cosine` or `Bhattacharyya`",
        );
    }
    let rule = config.divergence.rule();
    if weights.smoothing && (rule.label_apart || rule.sampled) {
        return refuse(
            format!(
                "class weights with label smoothing and the divergence `{}`",
                config.divergence
            ),
            "its kernels have no sums of weights; use another divergence, or no smoothing",
        );
    }
    if weights.smoothing && config.smoothed_classes == SmoothedClasses::Unmasked {
        return refuse(
            "class weights with label smoothing and `SmoothedClasses::Unmasked`".to_owned(),
            "the weights of masked classes count; use `SmoothedClasses::All`, or no smoothing",
        );
    }
    if config.standardization != Standardization::None {
        return refuse(
            "class weights with `Standardization::ZScore`".to_owned(),
            "the gradient through the standard deviation has no sums of weights; use one of them",
        );
    }
    Ok(())
}

/// Refuses weights of classes in a single step, whose statistics do not say that they have them.
pub(crate) fn no_class_weights(given: bool) -> Result<()> {
    match given {
        false => Ok(()),
        true => Err(Error::Unsupported {
            what: "`class_weights` in a single step".to_owned(),
            why: "the steps have weights of rows only; use `run`, `run_into` or `encode`",
        }),
    }
}
