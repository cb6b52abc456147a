// THIS: rows of a matrix that the variant does not have. Its elements are 0, and nothing is read.

fn load_THIS(base: u32, first: u32) -> vec4<f32> {
    return vec4<f32>();
}
