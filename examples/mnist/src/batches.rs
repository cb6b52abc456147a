//! Batches of digits in random order. With warping a digit looks different in each epoch.

use ndarray::{Array2, ArrayView2, s};

use crate::augment;
use crate::data::{Digits, PIXELS};
use crate::random::Random;
use crate::schedule::Schedule;

/// Repeats the first digits, in a new order in every epoch.
pub struct Batches<'a> {
    digits: &'a Digits,
    order: Vec<usize>,
    next: usize,
    warp: bool,
    random: Random,
    indices: Vec<usize>, // [rows]
    images: Array2<f32>, // [batch, PIXELS]
    labels: Vec<i32>,    // [rows]
}

impl<'a> Batches<'a> {
    /// Creates batches of `schedule.batch` digits. The last batch of an epoch may be smaller.
    pub fn new(digits: &'a Digits, schedule: &Schedule, random: Random) -> Self {
        Self {
            digits,
            order: (0..schedule.digits).collect(),
            next: 0,
            warp: schedule.warp,
            random,
            indices: Vec::with_capacity(schedule.batch),
            images: Array2::zeros((schedule.batch, PIXELS)),
            labels: Vec::with_capacity(schedule.batch),
        }
    }

    /// Makes the next batch.
    pub fn advance(&mut self) {
        if self.next == 0 {
            self.random.shuffle(&mut self.order);
        }
        let end = self.order.len().min(self.next + self.images.nrows());
        self.indices.clear();
        self.indices.extend(&self.order[self.next..end]);
        self.labels.clear();
        for (&index, mut image) in self.indices.iter().zip(self.images.rows_mut()) {
            let image = image.as_slice_mut().expect("a row is contiguous");
            let digit = self.digits.image(index);
            if self.warp {
                augment::warp(digit, &mut self.random, image);
            } else {
                augment::copy(digit, image);
            }
            self.labels.push(self.digits.label(index));
        }
        self.next = if end == self.order.len() { 0 } else { end };
    }

    /// The positions of the batch's digits in the data, `[rows]`.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The batch's images, `[rows, PIXELS]`.
    pub fn images(&self) -> ArrayView2<'_, f32> {
        self.images.slice(s![..self.labels.len(), ..])
    }

    /// The batch's labels, `[rows]`.
    pub fn labels(&self) -> &[i32] {
        &self.labels
    }
}

/// The first `count` of `digits` without warps: images `[count, PIXELS]` and labels `[count]`.
pub fn unwarped(digits: &Digits, count: usize) -> (Array2<f32>, Vec<i32>) {
    let mut images = Array2::zeros((count, PIXELS));
    for (index, mut image) in images.rows_mut().into_iter().enumerate() {
        let image = image.as_slice_mut().expect("a row is contiguous");
        augment::copy(digits.image(index), image);
    }
    let labels = (0..count).map(|index| digits.label(index)).collect();
    (images, labels)
}
