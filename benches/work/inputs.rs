//! The inputs of the peers' comparison, by formula. `benches/peers/inputs.py` has the same.

/// Number `index` of a stream of uniform 64-bit numbers.
fn hash(seed: u64, stream: u64, index: u64) -> u64 {
    let start = (index + 1)
        .wrapping_add(stream << 40)
        .wrapping_add(seed.wrapping_shl(48));
    let z = start.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A logit of the student (stream 0) or of the teacher (stream 1).
pub fn logit(seed: u64, stream: u64, index: u64) -> f32 {
    let z = hash(seed, stream, index);
    let unit = (z >> 40) as f32 / (1u32 << 24) as f32;
    let x = (unit - 0.5) * 8.0;
    if z & 0xff == 0 { x * 5.0 } else { x }
}

/// The label of a row.
pub fn label(seed: u64, row: u64, classes: usize) -> i32 {
    ((hash(seed, 2, row) >> 33) % classes as u64) as i32
}
