//! Choices that are fixed when a kernel's pipeline is made.

use super::loss::LossVariant;
use crate::Storage;

/// The width of loads and stores of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Four elements at a time: every row of every matrix starts at a multiple of four elements.
    Vec4,
    /// One element at a time: rows may start at any element.
    Element,
}

/// The choices that are fixed when a kernel's pipeline is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Storage type of the student's logits.
    pub student: Storage,
    /// Storage type of the teacher's logits.
    pub teacher: Storage,
    /// Storage type of the gradient, if there is one.
    pub gradient: Option<Storage>,
    /// The width of loads and stores of rows.
    pub access: Access,
    /// The choices that follow from the loss.
    pub loss: LossVariant,
    /// True if the gradient is added to the contents of its buffer.
    pub accumulate: bool,
    /// True if inputs are bound `read_write`: needed if an output lies in the same buffer.
    pub shared_buffers: bool,
    /// True if the gradient overwrites the student's logits. The kernel then reads the logits through the gradient's binding, because a
    /// compiler may assume that two bindings do not overlap.
    pub in_place: bool,
    /// Storage type of the soft labels, if there are any.
    pub soft_labels: Option<Storage>,
    /// True if each row has a weight.
    pub row_weights: bool,
    /// True if the matrices are a slice of the classes, whose statistics merge with those of other devices.
    pub sharded: bool,
    /// Slots of the table of a row's list, a power of two; 0 without a list.
    pub list_slots: u32,
    /// Invocations of a workgroup, a power of two.
    pub workgroup_size: u32,
    /// Invocations that own a row, a power of two up to `workgroup_size`.
    pub lanes: u32,
    /// Vectors of four classes that an invocation handles at a time, from 1 to [`MAX_VECTORS_PER_LANE`]. Those of a row's
    /// last tile stay in registers.
    pub vectors_per_lane: u32,
    /// True if every row is one tile: its logits are read once.
    pub one_tile: bool,
    /// True if every workgroup has one row group, so that it does not loop.
    pub one_group: bool,
    /// The device's smallest subgroup; `None` if the kernels use no subgroup operations. `workgroup_size` must be a multiple of its largest
    /// subgroup.
    pub subgroup_min: Option<u32>,
}

/// The largest [`Variant::vectors_per_lane`].
pub const MAX_VECTORS_PER_LANE: u32 = 16;
