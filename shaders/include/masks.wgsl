// Joined masks: a class that one row masks, or that the teacher lacks, is masked in both.

#import vector

#if masks_joined
// Joins the masks of 4 classes, given their logits. NaN and infinity stay, so that their row is found.
fn join_masks(s: ptr<function, vec4<f32>>, t: ptr<function, vec4<f32>>, first: u32) {
    let masked = vec4<u32>(0xff800000u);
    let in_either = (bitcast<vec4<u32>>(*s) == masked) | (bitcast<vec4<u32>>(*t) == masked);
    let dropped = in_either | (columns_of(first) >= vec4<u32>(params.teacher_classes));
    let lowest = vec4<f32>(bitcast<f32>(params.infinity_bits | 0x80000000u));
    *s = select(*s, lowest, dropped & is_finite(*s));
    *t = select(*t, lowest, dropped & is_finite(*t));
}
#end
