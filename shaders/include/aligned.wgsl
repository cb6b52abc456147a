// Rows of the gradient whose first column starts a word, or no gradient.

// Columns of the previous row that share a word with the first column of the row that starts at element `base`.
fn grad_misalignment(base: u32) -> u32 {
    return 0u;
}
