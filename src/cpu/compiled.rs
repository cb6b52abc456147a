//! Functions that are long and have several callers: `isa.rs` compiles them for each instruction set, and not into each caller.

use super::element::Element;
use super::lane_sums::Columns;
use super::list::Listed;
use super::row::Row;
use super::setup::Setup;
use super::sums::Sums;
use super::tile::{Ahead, Scratch, Tile};
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

/// A tile of plain numbers, and where its exponentials go.
pub(super) struct PlainTile<'a, T> {
    pub columns: Columns<'a, T>,
    pub exps: (&'a mut Tile, &'a mut Tile),
    pub ahead: [Ahead; 3],
}

/// A vector type with its compiled functions.
pub(super) trait Compiled: Vector {
    /// [`write_tiles`](super::apply::write_tiles)
    fn write_tiles<const ACCUMULATE: bool, const PLAIN: bool>(row: RowToWrite<'_>);

    /// [`Sums::add_plain`]
    fn add_plain<T: Element>(sums: &mut Sums, tile: PlainTile<'_, T>, setup: &Setup<'_>);
}
