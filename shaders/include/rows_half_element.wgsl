// THIS logits: rows of 16-bit numbers that start anywhere, loaded one element at a time.

#import HALF

// Elements first .. first + 3 of the row that starts at element `base`. Elements beyond the row are arbitrary: the caller masks them.
fn load_THIS(base: u32, first: u32) -> vec4<f32> {
    return vec4<f32>(
        load_THIS_at(base, first),
        load_THIS_at(base, first + 1u),
        load_THIS_at(base, first + 2u),
        load_THIS_at(base, first + 3u),
    );
}

fn load_THIS_at(base: u32, column: u32) -> f32 {
    let at = base + min(column, THIS_last());
    return unpack_HALF(THIS_word(at >> 1u))[at & 1u];
}
