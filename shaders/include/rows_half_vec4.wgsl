// THIS logits: rows of 16-bit numbers that start at multiples of 8 bytes, loaded 8 bytes at a time.

#import HALF

// Elements first .. first + 3 of the row that starts at element `base`; `first` is a multiple of 4. Elements beyond the row are arbitrary:
// the caller masks them.
fn load_THIS(base: u32, first: u32) -> vec4<f32> {
    let words = THIS_word((base + first) >> 2u);
    return vec4<f32>(unpack_HALF(words.x), unpack_HALF(words.y));
}

fn load_THIS_at(base: u32, column: u32) -> f32 {
    let at = base + column;
    return unpack_HALF(THIS_word(at >> 2u)[(at >> 1u) & 1u])[at & 1u];
}
