// THIS logits: rows of f32 that start anywhere, loaded one element at a time.

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
    return bitcast<f32>(THIS_word(base + min(column, THIS_last())));
}
