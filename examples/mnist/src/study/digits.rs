//! The study's digits: halved images, the split, and wrong labels.

use ndarray::Array2;

use crate::data::{CLASSES, Digits, PIXELS, SIDE};
use crate::random::Random;

/// Width and height of a halved image.
const HALF: usize = SIDE / 2;
/// Pixels of a halved image, the students' inputs.
pub const INPUTS: usize = HALF * HALF;

/// Images and labels for measuring accuracy.
pub struct Exam {
    pub images: Array2<f32>, // [len, INPUTS]
    pub labels: Vec<i32>,    // [len]
}

impl Exam {
    pub fn new(digits: &Digits) -> Self {
        Self {
            images: halved(digits),
            labels: digits.labels(),
        }
    }
}

/// The images at half the width and height, `[len, INPUTS]`, 0 for paper and 1 for ink. A pixel is the mean of four.
pub fn halved(digits: &Digits) -> Array2<f32> {
    let mut images = Array2::zeros((digits.len(), INPUTS));
    for (index, mut row) in images.rows_mut().into_iter().enumerate() {
        let image = &digits.image(index)[..PIXELS];
        for (at, to) in row.iter_mut().enumerate() {
            let corner = 2 * (at / HALF * SIDE + at % HALF);
            let four = [corner, corner + 1, corner + SIDE, corner + SIDE + 1];
            let sum: u32 = four.iter().map(|&i| u32::from(image[i])).sum();
            *to = sum as f32 / (4.0 * 255.0);
        }
    }
    images
}

/// Labels of which a share is replaced by another class, each with equal probability.
pub fn mislabelled(labels: &[i32], share: f32, random: &mut Random) -> Vec<i32> {
    let label = |&label: &i32| {
        // Both numbers are drawn for every label, so that a larger share replaces more labels, and the same ones.
        let (chance, shift) = (random.unit(), 1 + random.below(CLASSES - 1));
        match chance < share {
            true => (label + shift as i32) % CLASSES as i32,
            false => label,
        }
    };
    labels.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn a_halved_pixel_is_the_mean_of_four() {
        let mut pixels = vec![0; PIXELS];
        pixels[2 * SIDE + 4] = 255;
        pixels[3 * SIDE + 5] = 51;
        let images = halved(&Digits::new(pixels, vec![3]));
        let expected = (1.0 + 0.2) / 4.0;
        assert!((images[[0, HALF + 2]] - expected).abs() < 1e-6);
        assert!((images.sum() - expected).abs() < 1e-6);
    }

    #[test]
    fn a_share_of_the_labels_is_wrong() {
        let labels: Vec<i32> = (0..5000).map(|i| i % 10).collect();
        let wrong = |share| {
            let noisy = mislabelled(&labels, share, &mut Random::new(3, Purpose::WrongLabels));
            let pairs = labels.iter().zip(&noisy);
            assert!(noisy.iter().all(|label| (0..10).contains(label)));
            pairs.map(|(a, b)| a != b).collect::<Vec<_>>()
        };
        assert!(!wrong(0.0).contains(&true));
        let (few, many) = (wrong(0.2), wrong(0.4));
        let count = few.iter().filter(|w| **w).count();
        // Five standard deviations of a binomial count.
        assert!(count.abs_diff(1000) < 142, "{count}");
        assert!(few.iter().zip(&many).all(|(few, many)| !few || *many));
    }
}
