//! The matrix products of a chunk, cut into tiles that threads share. Tiles depend on the shape alone, so that results do not depend on
//! the number of threads.

use std::marker::PhantomData;

use super::batch::Linear;
use crate::cpu::Cpu;

/// Classes of a tile: a tile's operands are packed once for as many multiplications of each element.
const CLASSES: usize = 512;

/// Elements of hidden states in a tile.
const HIDDEN: usize = 512;

/// Tasks of the gradient of the hidden states, if it has enough classes.
const TASKS: usize = 16;

/// Fewest classes of a segment.
const LEAST_SEGMENT: usize = 1024;

/// A sum over the classes in segments, each a task of its own, whose partial sums are added up in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segments {
    pub count: usize,
    /// Classes of all segments but the last.
    classes: usize,
}

impl Segments {
    pub fn of(classes: usize, hidden: usize) -> Self {
        let wanted = TASKS.div_ceil(hidden.div_ceil(HIDDEN));
        let length = classes.div_ceil(wanted).max(LEAST_SEGMENT);
        Self {
            count: classes.div_ceil(length),
            classes: length,
        }
    }
}

/// A matrix in a slice, with the elements from row to row and from column to column.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    shape: [usize; 2],
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` elements without gaps.
    fn new(values: &'a [f32], columns: usize) -> Self {
        Self {
            values,
            shape: [values.len() / columns, columns],
            strides: [columns, 1],
        }
    }

    fn transposed(self) -> Self {
        let ([rows, columns], [row, column]) = (self.shape, self.strides);
        Self {
            shape: [columns, rows],
            strides: [column, row],
            ..self
        }
    }

    /// Columns from `start`, at most `columns`.
    fn columns(self, start: usize, columns: usize) -> Self {
        let [rows, all] = self.shape;
        Self {
            values: &self.values[start * self.strides[1]..],
            shape: [rows, columns.min(all - start)],
            ..self
        }
    }

    /// Rows from `start`, at most `rows`.
    fn rows(self, start: usize, rows: usize) -> Self {
        self.transposed().columns(start, rows).transposed()
    }

    /// Panics unless the slice holds every element.
    fn check(&self) {
        let [rows, columns] = self.shape;
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * self.strides[0] + (columns - 1) * self.strides[1];
            assert!(last < self.values.len(), "a matrix lies in its slice");
        }
    }
}

/// A tile of a matrix that other tasks write other tiles of.
struct Tile<'a> {
    start: *mut f32,
    shape: [usize; 2],
    row_stride: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: tiles of one matrix have no element in common, and each borrows the matrix for as long as it exists.
unsafe impl Send for Tile<'_> {}

impl Tile<'_> {
    /// Sets every row to the values, or to 0.
    fn fill(&mut self, values: Option<&[f32]>) {
        let [rows, columns] = self.shape;
        for row in 0..rows {
            // SAFETY: the elements of a row of the tile, which no other tile has.
            let own = unsafe {
                std::slice::from_raw_parts_mut(self.start.add(row * self.row_stride), columns)
            };
            match values {
                Some(values) => own.copy_from_slice(values),
                None => own.fill(0.0),
            }
        }
    }

    /// Writes the product of two matrices, or adds it.
    fn multiply(&mut self, a: Matrix<'_>, b: Matrix<'_>, add: bool) {
        let ([rows, inner], [also_inner, columns]) = (a.shape, b.shape);
        assert_eq!(inner, also_inner, "the shapes of a product");
        assert_eq!([rows, columns], self.shape, "the shape of the result");
        a.check();
        b.check();
        let [a_row, a_column] = a.strides.map(|n| n as isize);
        let [b_row, b_column] = b.strides.map(|n| n as isize);
        // SAFETY: `check` has found every element of both operands in its slice. The result's elements are those of the tile, which
        // nothing else reads or writes.
        unsafe {
            matrixmultiply::sgemm(
                rows,
                inner,
                columns,
                1.0,
                a.values.as_ptr(),
                a_row,
                a_column,
                b.values.as_ptr(),
                b_row,
                b_column,
                if add { 1.0 } else { 0.0 },
                self.start,
                self.row_stride as isize,
                1,
            );
        }
    }
}

/// Cuts matrices into tiles of at most `most` columns. Each comes with its first column.
fn tiles(
    matrix: &mut [f32],
    columns: usize,
    most: usize,
) -> impl Iterator<Item = (usize, Tile<'_>)> {
    let rows = matrix.len() / columns;
    let start = matrix.as_mut_ptr();
    (0..columns).step_by(most).map(move |column| {
        let tile = Tile {
            // SAFETY: the offset lies in the first row of the matrix.
            start: unsafe { start.add(column) },
            shape: [rows, most.min(columns - column)],
            row_stride: columns,
            matrix: PhantomData,
        };
        (column, tile)
    })
}

/// The logits `[rows, columns]` of hidden states, of the first `columns` classes.
pub(super) fn logits(
    cpu: &Cpu,
    linear: &Linear<'_>,
    hidden_states: &[f32],
    columns: usize,
    out: &mut [f32],
) {
    let hidden_states = Matrix::new(hidden_states, linear.hidden);
    let weights = Matrix::new(linear.weights, linear.hidden);
    let tasks = tiles(out, columns, CLASSES).collect();
    cpu.share(tasks, |(class, mut tile): (usize, Tile<'_>)| {
        let classes = tile.shape[1];
        let bias = linear.bias.map(|bias| &bias[class..class + classes]);
        if bias.is_some() {
            tile.fill(bias);
        }
        let weights = weights.rows(class, classes).transposed();
        tile.multiply(hidden_states, weights, bias.is_some());
    });
}

/// The gradient of the hidden states in parts `[segments, rows, hidden]`, of which each row's sum is the gradient.
pub(super) fn grad_hidden_states(
    cpu: &Cpu,
    linear: &Linear<'_>,
    grad_logits: &[f32],
    parts: &mut [f32],
) {
    let (hidden, classes) = (linear.hidden, linear.classes);
    let segments = Segments::of(classes, hidden);
    let grad_logits = Matrix::new(grad_logits, classes);
    let weights = Matrix::new(linear.weights, hidden);
    let part_length = grad_logits.shape[0] * hidden;
    let mut tasks = Vec::new();
    for (segment, part) in parts.chunks_exact_mut(part_length).enumerate() {
        let own = tiles(part, hidden, HIDDEN);
        tasks.extend(own.map(|(column, tile)| (segment * segments.classes, column, tile)));
    }
    cpu.share(
        tasks,
        |(class, column, mut tile): (usize, usize, Tile<'_>)| {
            let classes = segments.classes;
            let weights = weights.rows(class, classes).columns(column, HIDDEN);
            tile.multiply(grad_logits.columns(class, classes), weights, false);
        },
    );
}

/// Writes or adds the gradients of weights `[classes, hidden]` and bias `[classes]`.
pub(super) fn grad_head(
    cpu: &Cpu,
    [hidden_states, grad_logits]: [&[f32]; 2],
    [hidden, classes]: [usize; 2],
    (weights, bias): (Option<&mut [f32]>, Option<&mut [f32]>),
    add: bool,
) {
    let hidden_states = Matrix::new(hidden_states, hidden);
    let grad_logits = Matrix::new(grad_logits, classes);
    let mut weights = weights.map(|all| all.chunks_mut(CLASSES * hidden));
    let mut bias = bias.map(|all| all.chunks_mut(CLASSES));
    let tasks: Vec<_> = (0..classes)
        .step_by(CLASSES)
        .map(|class| {
            let weights = weights.as_mut().and_then(Iterator::next);
            let bias = bias.as_mut().and_then(Iterator::next);
            (class, weights, bias)
        })
        .collect();
    cpu.share(tasks, |(class, weights, bias)| {
        let grad_logits = grad_logits.columns(class, CLASSES);
        if let Some(weights) = weights {
            for (_, mut tile) in tiles(weights, hidden, hidden) {
                tile.multiply(grad_logits.transposed(), hidden_states, add);
            }
        }
        if let Some(bias) = bias {
            sum_columns(grad_logits, bias, add);
        }
    });
}

/// Writes or adds the sums of columns.
fn sum_columns(matrix: Matrix<'_>, out: &mut [f32], add: bool) {
    let [rows, columns] = matrix.shape;
    let mut sums = vec![0.0f64; columns];
    for row in 0..rows {
        let start = row * matrix.strides[0];
        let values = &matrix.values[start..start + columns];
        sums.iter_mut()
            .zip(values)
            .for_each(|(sum, value)| *sum += f64::from(*value));
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        let before = if add { f64::from(*out) } else { 0.0 };
        *out = (before + sum) as f32;
    }
}
