//! Batches of digits for Burn's data loader.

use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder, Dataset};
use burn::data::dataset::DatasetError;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::data::{Digits, PIXELS, SIDE};

/// Images and labels of one step.
#[derive(Clone, Debug)]
pub struct DigitBatch {
    /// `[rows, 1, SIDE, SIDE]`, 0 for paper, 1 for ink.
    pub images: Tensor<4>,
    /// `[rows]`
    pub labels: Tensor<1, Int>,
}

/// The first `count` digits.
struct FirstDigits {
    digits: Arc<Digits>,
    count: usize,
}

impl Dataset<(Vec<u8>, i32)> for FirstDigits {
    fn get(&self, index: usize) -> Result<(Vec<u8>, i32), DatasetError> {
        Ok((self.digits.image(index).to_vec(), self.digits.label(index)))
    }

    fn len(&self) -> usize {
        self.count
    }
}

#[derive(Clone)]
pub struct DigitBatcher;

impl Batcher<(Vec<u8>, i32), DigitBatch> for DigitBatcher {
    fn batch(&self, items: Vec<(Vec<u8>, i32)>, device: &Device) -> DigitBatch {
        let rows = items.len();
        let mut pixels = Vec::with_capacity(rows * PIXELS);
        let mut labels = Vec::with_capacity(rows);
        for (image, label) in items {
            pixels.extend(image.into_iter().map(|p| f32::from(p) / 255.0));
            labels.push(label);
        }
        let images = TensorData::new(pixels, [rows, 1, SIDE, SIDE]);
        let labels = TensorData::new(labels, [rows]);
        DigitBatch {
            images: Tensor::from_data(images, (device, DType::F32)),
            labels: Tensor::from_data(labels, (device, DType::I32)),
        }
    }
}

/// A loader of the first `count` digits. With a seed each epoch has its own order.
pub fn loader(
    digits: &Arc<Digits>,
    count: usize,
    batch: usize,
    seed: Option<u64>,
    device: &Device,
) -> Arc<dyn DataLoader<DigitBatch>> {
    let builder = DataLoaderBuilder::new(DigitBatcher)
        .batch_size(batch)
        .set_device(device.clone());
    let builder = match seed {
        Some(seed) => builder.shuffle(seed),
        None => builder,
    };
    builder.build(FirstDigits {
        digits: digits.clone(),
        count,
    })
}
