//! The gradient by Burn's operations: a sum of few matrices, each times a column.

use burn::tensor::{Bool, IndexingUpdateOp, Int, Tensor};

/// `sum matrix * column`, with a column at one class of each row. Columns are `[rows, 1]`.
pub(super) struct Gradient {
    /// Each of `[rows, classes]`. Operations may overwrite them.
    matrices: Vec<Tensor<2>>,
    /// The factor of each matrix.
    columns: Vec<Tensor<2>>,
    /// A matrix and the rows of it that count as 0.
    without: Option<(usize, Tensor<2, Bool>)>,
    /// Added at all classes.
    at_all: Option<Tensor<2>>,
    /// Added at the class of each row.
    at_class: Option<(Tensor<2, Int>, Tensor<2>)>,
}

impl Gradient {
    /// `matrix * column`
    pub fn of(matrix: Tensor<2>, column: Tensor<2>) -> Self {
        Self {
            matrices: vec![matrix],
            columns: vec![column],
            without: None,
            at_all: None,
            at_class: None,
        }
    }

    /// Adds `matrix * column`.
    pub fn add(mut self, matrix: Tensor<2>, column: Tensor<2>) -> Self {
        self.matrices.push(matrix);
        self.columns.push(column);
        self
    }

    /// Adds `matrix * column`, and 0 in the rows `without`, whose numbers may be infinite.
    pub fn add_finite(
        mut self,
        matrix: Tensor<2>,
        column: Tensor<2>,
        without: Tensor<2, Bool>,
    ) -> Self {
        self.without = Some((self.matrices.len(), without));
        self.add(matrix, column)
    }

    /// Adds a column at all classes.
    pub fn add_at_all(self, column: Tensor<2>) -> Self {
        Self {
            at_all: Some(column),
            ..self
        }
    }

    /// Adds a column at one class of each row.
    pub fn add_at(self, class: Tensor<2, Int>, column: Tensor<2>) -> Self {
        Self {
            at_class: Some((class, column)),
            ..self
        }
    }

    /// The sum, `[rows, classes]`: NaN in the rows `nan`, 0 in the rows `left_out`, whatever else the rows have.
    pub fn sum(self, nan: &Tensor<2, Bool>, left_out: &Tensor<2, Bool>) -> Tensor<2> {
        let whole = left_out.clone().expand(self.matrices[0].dims());
        // In one tensor, so that fusion does not compute the columns anew for each class.
        let mut columns = self.columns;
        columns.extend(self.at_all.clone());
        let (class, at_class) = self.at_class.unzip();
        columns.extend(at_class);
        let lines = columns.into_iter().map(|column| {
            let column = column.mask_fill(nan.clone(), f32::NAN);
            column.mask_fill(left_out.clone(), 0.0).reshape([1, -1])
        });
        let lines: Tensor<2> = Tensor::cat(lines.collect(), 0);
        let [count, rows] = lines.dims();
        let column = |i: usize| {
            let line = lines.clone().slice([i..i + 1, 0..rows]);
            line.reshape([rows, 1])
        };
        let mut columns = (0..count).map(column).collect::<Vec<_>>().into_iter();
        // The operations on matrices follow one another, so that fusion makes one kernel of them.
        let mut matrices = self.matrices;
        if let Some((i, without)) = self.without {
            let matrix = matrices.remove(i);
            let without = without.expand(matrix.dims());
            matrices.insert(i, matrix.mask_fill(without, 0.0));
        }
        let terms = matrices.into_iter().zip(columns.by_ref());
        let terms = terms.map(|(matrix, column)| matrix * column);
        let sum = terms.reduce(Tensor::add).expect("the student's term");
        let sum = match self.at_all {
            Some(_) => sum + columns.next().expect("a column at all classes"),
            None => sum,
        };
        let sum = sum.mask_fill(whole, 0.0);
        match class {
            Some(class) => {
                let column = columns.next().expect("a column at the class");
                sum.scatter(1, class, column, IndexingUpdateOp::Add)
            }
            None => sum,
        }
    }
}
