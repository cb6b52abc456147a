//! Checks of joined masks.

use crate::{Config, Error, Result, Standardization};

/// Refuses joined masks beside numbers of a row that are not sums over the classes that both have.
pub(super) fn check(config: &Config) -> Result<()> {
    let beside = match config.divergence {
        _ if !config.joins_masks() => return Ok(()),
        divergence if divergence.rule().label_apart => format!("the divergence `{divergence}`"),
        _ if config.standardization != Standardization::None => {
            "`Standardization::ZScore`".to_owned()
        }
        _ => return Ok(()),
    };
    Err(Error::Unsupported {
        what: format!("`MaskedClasses::Both` with {beside}"),
        why: "it needs the teacher's whole row",
    })
}
