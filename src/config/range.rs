//! The refusal of a number out of its range.

use crate::{Error, Result};

/// Refuses a field's value unless `ok`.
pub(crate) fn require(
    ok: bool,
    field: &'static str,
    value: f32,
    expected: &'static str,
) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::InvalidConfig {
        field,
        value: value.to_string(),
        expected,
    })
}

/// The temperature, its inverse and `log2(e) / temperature` must be normal f32.
pub(crate) fn temperature(field: &'static str, value: f32) -> Result<()> {
    let ok = (1e-30..=1e30).contains(&value);
    require(
        ok,
        field,
        value,
        "a finite number above 0, between 1e-30 and 1e30",
    )
}
