// The rows of soft labels; 0 in a variant without them.

#import $SOFT_LABEL_ROWS THIS=soft_label

#if soft_labels
// The bits of the largest number in a soft label. Those of negative numbers and NaN are larger.
const MOST_SOFT_LABEL: u32 = 0x49742400u;

fn soft_label_word(at: u32) -> SoftLabelWord {
    return soft_labels[at];
}

// The last column that may be read.
fn soft_label_last() -> u32 {
    return params.classes - 1u;
}

// Returns true where a number of a soft label is out of range. -0 is 0.
fn is_bad_soft_label(y: vec4<f32>) -> vec4<bool> {
    let bits = bitcast<vec4<u32>>(y);
    return (bits > vec4<u32>(MOST_SOFT_LABEL)) & (bits != vec4<u32>(0x80000000u));
}
#end
