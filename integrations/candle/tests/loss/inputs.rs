//! Seeded inputs, and comparisons.

use candle_core::{DType, Device, Result, Tensor, Var};

/// The tests run on the CPU, the only device of the loss.
pub const CPU: &Device = &Device::Cpu;

/// Numbers between -4 and 4, seeded (splitmix).
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let number = |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 21) as f32 - 4.0
    };
    (0..count).map(number).collect()
}

/// Seeded logits of a shape and type.
pub fn logits(seed: u64, shape: &[usize], dtype: DType) -> Result<Tensor> {
    let values = numbers(seed, shape.iter().product());
    Tensor::from_vec(values, shape, CPU)?.to_dtype(dtype)
}

/// Labels `[rows]` of all classes in turn; every fifth is -100.
pub fn labels(rows: usize, classes: usize) -> Result<Tensor> {
    let label = |row: usize| match row % 5 {
        3 => -100,
        _ => (row * 7 % classes) as i64,
    };
    Tensor::from_vec((0..rows).map(label).collect(), rows, CPU)
}

/// A variable with the tensor's numbers, so that its gradient is tracked.
pub fn var(tensor: &Tensor) -> Result<Var> {
    Var::from_tensor(&tensor.contiguous()?)
}

/// The gradient of a loss with respect to a variable.
pub fn gradient(loss: &Tensor, var: &Tensor) -> Result<Tensor> {
    let grads = loss.backward()?;
    Ok(grads.get(var).expect("the variable is tracked").clone())
}

/// All numbers of a tensor in f64.
pub fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Asserts that no number is further from the expected one than `tolerance` times the largest of those.
pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0, |most: f64, e| most.max(e.abs()));
    assert!(largest > 0.0, "{what}: all expected numbers are 0");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let distance = (g - e).abs();
        assert!(
            distance <= tolerance * largest,
            "{what}: number {i} is {g}, expected {e}"
        );
    }
}
