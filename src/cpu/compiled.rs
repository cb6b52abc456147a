//! The function of a row that is long and has several callers: `isa.rs` compiles it for each instruction set, and not into each caller.

use super::list::Listed;
use super::row::Row;
use super::tile::Scratch;
use super::vector::Vector;
use crate::{Decision, ValuesMut};

/// A row of the gradient and what it is made of.
pub(super) struct RowToWrite<'a> {
    pub row: &'a Row<'a>,
    pub decision: &'a Decision,
    pub gradient: ValuesMut<'a>,
    /// True if this row was observed last, so that `scratch` may hold its exponentials.
    pub kept: bool,
    /// The gradient of classes of a list.
    pub listed: &'a Listed,
    pub scratch: &'a mut Scratch,
}

/// A vector type with its compiled function.
pub(super) trait Compiled: Vector {
    /// [`write_tiles`](super::apply::write_tiles)
    fn write_tiles<const ACCUMULATE: bool, const PLAIN: bool>(row: RowToWrite<'_>);
}
