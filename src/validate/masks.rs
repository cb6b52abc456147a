//! Checks of joined masks.

use crate::{Config, Error, Result, Standardization};

/// Refuses joined masks where the sums of the soft part are not those of the classes that both have.
pub(super) fn check(config: &Config) -> Result<()> {
    if !config.joins_masks() {
        return Ok(());
    }
    let refuse = |what: String, why| {
        let what = format!("`MaskedClasses::Both` with {what}");
        Err(Error::Unsupported { what, why })
    };
    if config.divergence.rule().label_apart {
        return refuse(
            format!("the divergence `{}`", config.divergence),
            "it treats the class of the label apart, which the teacher may lack; use another divergence",
        );
    }
    if config.standardization != Standardization::None {
        return refuse(
            "`Standardization::ZScore`".to_owned(),
            "the standard deviation is that of all classes of a row; use `MaskedClasses::Each`",
        );
    }
    Ok(())
}
