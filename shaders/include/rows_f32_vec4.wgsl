// THIS logits: rows of f32 that start at multiples of 16 bytes, loaded 16 bytes at a time.

// Elements first .. first + 3 of the row that starts at element `base`; `first` is a multiple of 4. Elements beyond the row are arbitrary:
// the caller masks them.
fn load_THIS(base: u32, first: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(THIS_word((base + first) >> 2u));
}

fn load_THIS_at(base: u32, column: u32) -> f32 {
    return bitcast<f32>(THIS_word((base + column) >> 2u)[(base + column) & 3u]);
}
