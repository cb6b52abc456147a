//! The gradient by Burn's operations: a sum of few matrices, each times a column.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

/// `sum matrix * column`. Each operation may overwrite its matrix.
pub(super) struct Gradient(Tensor<2>);

impl Gradient {
    /// `matrix * column`: `[rows, classes]` and `[rows, 1]`.
    pub fn of(matrix: Tensor<2>, column: Tensor<2>) -> Self {
        Self(matrix * column)
    }

    /// Adds `matrix * column`.
    pub fn add(self, matrix: Tensor<2>, column: Tensor<2>) -> Self {
        Self(self.0 + matrix * column)
    }

    /// Adds a column `[rows, 1]` at all classes.
    pub fn add_at_all(self, column: Tensor<2>) -> Self {
        Self(self.0 + column)
    }

    /// Adds a column at one class of each row, both `[rows, 1]`.
    pub fn add_at(self, class: Tensor<2, Int>, column: Tensor<2>) -> Self {
        Self(self.0.scatter(1, class, column, IndexingUpdateOp::Add))
    }

    /// The sum, `[rows, classes]`.
    pub fn sum(self) -> Tensor<2> {
        self.0
    }
}
