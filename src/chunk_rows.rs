//! The size of chunks of rows whose logits are in memory one chunk at a time, for the losses from hidden states.

/// The rows of each chunk but the last, if a chunk has at most `budget` bytes of `row_bytes` a row. At least 1, and at most all where there
/// are rows.
///
/// The chunks are the fewest and even: their rows are a multiple of 16 where the budget allows it, since matrix products compute such blocks.
///
/// ```
/// use wgpu_distill::chunk_rows;
///
/// // 300 rows fit: four chunks, and 256 rows in each are enough.
/// assert_eq!(chunk_rows(1000, 1024, 300 * 1024), 256);
/// ```
pub fn chunk_rows(rows: usize, row_bytes: usize, budget: usize) -> usize {
    const BLOCK: usize = 16;
    let rows = rows.max(1);
    let most = (budget / row_bytes.max(1)).clamp(1, rows);
    let even = rows.div_ceil(rows.div_ceil(most));
    even.next_multiple_of(BLOCK).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn chunks_are_even_and_within_the_budget() {
        for rows in [1, 2, 15, 16, 17, 100, 1000, 1024, 4097, 100_003] {
            for classes in [1, 10, 1000, 32_000, 262_144] {
                for hidden in [1, 64, 4096] {
                    for budget in [0, 1, 1000, MIB, 16 * MIB, 64 * MIB, usize::MAX] {
                        let row_bytes = size_of::<f32>() * (3 * classes + 2 * hidden);
                        let chunk = chunk_rows(rows, row_bytes, budget);
                        let about = format!("{rows} of {row_bytes} bytes, {budget}: {chunk}");
                        assert!((1..=rows).contains(&chunk), "{about}");
                        let fits = chunk.checked_mul(row_bytes);
                        assert!(fits.is_some_and(|b| b <= budget) || chunk == 1, "{about}");
                        // No other size within the budget needs fewer chunks.
                        let most = (budget / row_bytes).clamp(1, rows);
                        assert_eq!(rows.div_ceil(chunk), rows.div_ceil(most), "{about}");
                    }
                }
            }
        }
        assert_eq!(chunk_rows(0, 12, MIB), 1);
    }
}
