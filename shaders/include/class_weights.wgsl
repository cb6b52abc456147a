// The weights of classes, each from 0 to 1e6. Every other weight is refused by its bits, in the rows that use it.

// The bits of the weights of four classes, 0 for columns that do not exist.
fn class_weight_bits(first: u32) -> vec4<u32> {
    let columns = columns_of(first);
    let at = vec4<u32>(params.class_weight_offset) + min(columns, vec4<u32>(params.classes - 1u));
    let bits = vec4<u32>(class_weights[at.x], class_weights[at.y], class_weights[at.z], class_weights[at.w]);
    return select(vec4<u32>(), bits, columns < vec4<u32>(params.classes));
}

// Negative numbers, infinities and NaN have larger bits than 1e6; -0 is 0.
fn are_refused(bits: vec4<u32>) -> vec4<bool> {
    return (bits > vec4<u32>(0x49742400u)) & (bits != vec4<u32>(0x80000000u));
}
