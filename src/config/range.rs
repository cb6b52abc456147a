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
