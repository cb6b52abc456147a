//! A seeded generator (splitmix64), so that a seed gives the same run on every machine.

/// Pseudo-random numbers from one seed.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// The generator of `seed` for one purpose. Different purposes of a seed get different numbers.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let mut random = Self(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ purpose as u64);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)` with 24 bits, the precision of f32.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Uniform in `[-limit, limit)`.
    pub fn around_zero(&mut self, limit: f32) -> f32 {
        (2.0 * self.unit() - 1.0) * limit
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f32 {
        // 1 - unit() lies in (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.unit()).cos()
    }

    /// Uniform in `0..count`. The bias of the remainder is below 2^-40 for any count of things in memory.
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// Puts `items` in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

/// Purposes of random numbers, each with its own sequence.
#[derive(Clone, Copy)]
pub enum Purpose {
    /// Initial weights of a network.
    Weights = 1,
    /// Order and warps of the digits.
    Batches = 2,
    /// Choice of the digits of a study.
    Choice = 3,
    /// Wrong labels.
    WrongLabels = 4,
}
