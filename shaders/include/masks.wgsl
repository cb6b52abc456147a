// Joined masks: a class that one row masks, or that the teacher lacks, is masked in both.

#import vector

#if masks_joined
fn is_dropped(s: vec4<f32>, t: vec4<f32>, first: u32) -> vec4<bool> {
    let masked = vec4<u32>(0xff800000u);
    let lacks = columns_of(first) >= vec4<u32>(params.teacher_classes);
    return (bitcast<vec4<u32>>(s) == masked) | (bitcast<vec4<u32>>(t) == masked) | lacks;
}

// NaN and infinity stay, so that their row is found.
fn without(x: vec4<f32>, dropped: vec4<bool>) -> vec4<f32> {
    let masked = vec4<f32>(bitcast<f32>(params.infinity_bits | 0x80000000u));
    return select(x, masked, dropped & is_finite(x));
}
#end
