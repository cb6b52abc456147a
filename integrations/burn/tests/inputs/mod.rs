//! Pseudo-random inputs, the same in every run.

#![allow(dead_code)]

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// The splitmix64 generator.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[-1, 1)`.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| scale * self.unit()).collect()
    }
}

pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

pub fn logits(seed: u64, rows: usize, classes: usize, device: &Device) -> Tensor<2> {
    let values = Random(seed).values(rows * classes, 4.0);
    tensor(values, [rows, classes], device)
}

pub fn labels(rows: usize, classes: usize, device: &Device) -> Tensor<1, Int> {
    let labels: Vec<i32> = (0..rows).map(|r| (r * 7 % classes) as i32).collect();
    Tensor::from_data(TensorData::new(labels, [rows]), (device, DType::I32))
}

pub fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

/// The largest difference, relative to the largest magnitude.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let apart = a.iter().zip(b).fold(
        0.0f32,
        |m, (x, y)| {
            if x == y { m } else { m.max((x - y).abs()) }
        },
    );
    assert!(!apart.is_nan() && a.iter().all(|x| !x.is_nan()));
    apart / largest.max(1e-30)
}
