//! Checks of standardised logits.

use crate::config::require;
use crate::rule::Shape;
use crate::{Config, Error, HardTemperature, Result, Standardization, TssrGradient};

/// Refuses standardised logits where the gradient through the standard deviation is not among the kernels' terms.
pub(super) fn check(config: &Config) -> Result<()> {
    if config.standardization == Standardization::None {
        return Ok(());
    }
    for (field, value) in [
        ("student_temperature", config.student_temperature),
        ("teacher_temperature", config.teacher_temperature),
    ] {
        let expected = "a number between 1e-3 and 1e3 with `Standardization::ZScore`";
        require((1e-3..=1e3).contains(&value), field, value, expected)?;
    }
    let refuse = |what: String, why| {
        let what = format!("`Standardization::ZScore` with {what}");
        Err(Error::Unsupported { what, why })
    };
    let rule = config.divergence.rule();
    if rule.shape != Shape::Plain || rule.label_apart {
        return refuse(
            format!("the divergence `{}`", config.divergence),
            "its gradient has terms besides those of p and q; use `SoftCrossEntropy` or `ForwardKl`",
        );
    }
    if config.tssr_gradient == TssrGradient::Attached {
        return refuse(
            "`TssrGradient::Attached`".to_owned(),
            "a kernel adds the terms of KDR or those of the standard deviation; use `TssrGradient::Detached`",
        );
    }
    if config.z_loss > 0.0 && config.hard_temperature == HardTemperature::Student {
        return refuse(
            "a z-loss at the student's temperature".to_owned(),
            "z-scores have no offset that a z-loss could keep small; use `HardTemperature::Own`",
        );
    }
    Ok(())
}
