//! Batches of windows for Burn's learner: padded, and with the denominator of their optimiser step.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

use crate::random::{Purpose, Random};
use crate::text::{PAD, Window};

/// A micro-batch. Windows shorter than the longest are padded at their end.
#[derive(Clone, Debug)]
pub struct TextBatch {
    /// `[batch, sequence]`
    pub inputs: Tensor<2, Int>,
    /// `[batch, sequence]`: the token after each input, `PAD` where there is none.
    pub labels: Tensor<2, Int>,
    /// `[batch, sequence]`: true where the input is padding.
    pub mask_pad: Tensor<2, Bool>,
    /// Labels that are no padding.
    pub labelled: usize,
    /// Labels that are no padding in all micro-batches of the optimiser step.
    pub denominator: usize,
}

impl TextBatch {
    pub fn new(windows: &[&Window], denominator: usize, device: &Device) -> Self {
        let sequence = windows.iter().map(|window| window.len() - 1).max();
        let shape = [windows.len(), sequence.unwrap_or(0)];
        let padded = |tokens: fn(&Window) -> &[u32]| {
            let rows = windows.iter().flat_map(|window| {
                let row = tokens(window).iter().copied();
                row.chain(std::iter::repeat(PAD)).take(shape[1])
            });
            let data = TensorData::new(rows.map(|token| token as i32).collect(), shape);
            Tensor::<2, Int>::from_data(data, (device, DType::I32))
        };
        let inputs = padded(|window| &window[..window.len() - 1]);
        Self {
            mask_pad: inputs.clone().equal_scalar(i64::from(PAD)),
            inputs,
            labels: padded(|window| &window[1..]),
            labelled: windows.iter().map(|window| window.len() - 1).sum(),
            denominator,
        }
    }
}

/// Sizes of the batches of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchSizes {
    /// Windows in a micro-batch.
    pub micro_batch: usize,
    /// Micro-batches in an optimiser step.
    pub accumulation: usize,
    /// Optimiser steps in an epoch of Burn's learner, after which the held-out windows are measured.
    pub steps_per_epoch: usize,
}

/// The order of the windows.
#[derive(Clone)]
enum Order {
    /// All once, in the order of the text.
    Text,
    /// Steps of a training. The windows are shuffled anew each time all of them have been used, independently of the epochs.
    Shuffled { sizes: BatchSizes, seed: u64 },
}

/// A loader of micro-batches.
#[derive(Clone)]
pub struct TextLoader {
    windows: Arc<Vec<Window>>,
    order: Order,
    micro_batch: usize,
    /// The micro-batches of an epoch that this loader yields.
    part: Range<usize>,
    /// The epoch of the next call of `iter`, from 0. Only a shuffled order depends on it.
    epoch: Arc<AtomicUsize>,
    device: Device,
}

impl TextLoader {
    /// A loader of a training that begins at an epoch, from 0, as one that is resumed does.
    pub fn shuffled(
        windows: &Arc<Vec<Window>>,
        sizes: BatchSizes,
        seed: u64,
        epoch: usize,
        device: &Device,
    ) -> Self {
        Self {
            windows: windows.clone(),
            order: Order::Shuffled { sizes, seed },
            micro_batch: sizes.micro_batch,
            part: 0..sizes.steps_per_epoch * sizes.accumulation,
            epoch: Arc::new(AtomicUsize::new(epoch)),
            device: device.clone(),
        }
    }

    /// A loader of all windows, in the order of the text.
    pub fn in_order(windows: &Arc<Vec<Window>>, micro_batch: usize, device: &Device) -> Self {
        Self {
            windows: windows.clone(),
            order: Order::Text,
            micro_batch,
            part: 0..windows.len().div_ceil(micro_batch),
            epoch: Arc::default(),
            device: device.clone(),
        }
    }

    /// The windows of a micro-batch of an epoch.
    fn windows_of(&self, epoch: usize, micro_batch: usize) -> Vec<&Window> {
        match self.order {
            Order::Text => {
                let start = micro_batch * self.micro_batch;
                let end = self.windows.len().min(start + self.micro_batch);
                self.windows[start..end].iter().collect()
            }
            Order::Shuffled { sizes, seed } => {
                let before = epoch * sizes.steps_per_epoch * sizes.accumulation;
                let start = (before + micro_batch) * self.micro_batch;
                let count = self.windows.len();
                let mut windows = Vec::with_capacity(self.micro_batch);
                while windows.len() < self.micro_batch {
                    let at = start + windows.len();
                    let pass = permutation(count, seed, at / count);
                    let rest = pass[at % count..].iter().map(|index| &self.windows[*index]);
                    windows.extend(rest.take(self.micro_batch - windows.len()));
                }
                windows
            }
        }
    }

    /// The labels of the optimiser step to which a micro-batch belongs.
    fn denominator(&self, epoch: usize, micro_batch: usize) -> usize {
        let step = match self.order {
            Order::Text => micro_batch..micro_batch + 1,
            Order::Shuffled { sizes, .. } => {
                let first = micro_batch - micro_batch % sizes.accumulation;
                first..first + sizes.accumulation
            }
        };
        let windows = step.flat_map(|micro_batch| self.windows_of(epoch, micro_batch));
        windows.map(|window| window.len() - 1).sum()
    }
}

/// The order of the windows in one pass over them.
fn permutation(count: usize, seed: u64, pass: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    // Neighbouring seeds share no pass.
    let own = seed.wrapping_mul(1 << 32).wrapping_add(pass as u64);
    Random::new(own, Purpose::Batches).shuffle(&mut order);
    order
}

impl DataLoader<TextBatch> for TextLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<TextBatch> + 'a> {
        Box::new(TextIterator {
            loader: self,
            epoch: self.epoch.fetch_add(1, Ordering::Relaxed),
            next: self.part.start,
        })
    }

    /// The micro-batches of an epoch.
    fn num_items(&self) -> usize {
        self.part.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<TextBatch>> {
        Arc::new(Self {
            device: device.clone(),
            ..self.clone()
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<TextBatch>> {
        Arc::new(Self {
            part: self.part.start + start..self.part.start + end,
            // Each part counts the epochs for itself.
            epoch: Arc::new(AtomicUsize::new(self.epoch.load(Ordering::Relaxed))),
            ..self.clone()
        })
    }
}

/// The micro-batches of one epoch.
struct TextIterator<'a> {
    loader: &'a TextLoader,
    epoch: usize,
    next: usize,
}

impl Iterator for TextIterator<'_> {
    type Item = Result<TextBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.loader.part.end {
            return None;
        }
        let windows = self.loader.windows_of(self.epoch, self.next);
        let denominator = self.loader.denominator(self.epoch, self.next);
        self.next += 1;
        Some(Ok(TextBatch::new(
            &windows,
            denominator,
            &self.loader.device,
        )))
    }
}

impl DataLoaderIterator<TextBatch> for TextIterator<'_> {
    fn progress(&self) -> Progress {
        let part = &self.loader.part;
        let unit = Some("micro-batches".to_owned());
        Progress::new(self.next - part.start, part.len(), unit)
    }
}
