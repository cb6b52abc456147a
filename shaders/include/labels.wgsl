// Labels of 32 or 64 bits.

// A label that is no class and not ignore_index, for one that 32 bits do not hold.
fn no_label() -> i32 {
    return select(-1, -2, params.ignore_index == -1);
}

fn label_at(row: u32) -> i32 {
    let at = (params.label_offset + row) * params.label_words;
    let label = labels[at];
    // The upper word repeats the sign of the lower.
    if (params.label_words == 2u && labels[at + 1u] != (label >> 31u)) {
        return no_label();
    }
    return label;
}
