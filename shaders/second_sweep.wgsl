// second_sweep: each segment's part of the sums that need the row's normalisers first.
//
//   the similarity's, and the two of the divergence, as include/sweep.wgsl has them, over the classes of a segment
//
// student_logits, teacher_logits: [rows, classes]; segment_stats, sweep_sums: [rows, segments]. On a slice of the classes the statistics are
// [shards, rows] and the sums [rows].
// LANES invocations own a segment. They first merge the statistics of all segments of their row, which costs less than a dispatch.
// Then they read each logit once. Sums are f32, in two levels.

@group(0) @binding(0) var<uniform> params: Params;
#if student_bound
@group(0) @binding(1) var<storage, $INPUT_ACCESS> student_logits: array<StudentWord>;  // [rows, student_stride]
#end
@group(0) @binding(2) var<storage, $INPUT_ACCESS> teacher_logits: array<TeacherWord>;  // [rows, teacher_stride]
@group(0) @binding(5) var<storage, $INPUT_ACCESS> segment_stats: array<RowStats>;  // [rows, segments]
@group(0) @binding(8) var<storage, read_write> sweep_sums: array<SweepSums>;  // [rows, segments]

#import params
#import types
#import sums
#import label_apart
#import invocation
#import row
#import sweep
#import merge
#import student
#import teacher
#import $STUDENT_ROWS THIS=student
#import $TEACHER_ROWS THIS=teacher
#import aligned
#import $REDUCE

fn kernel(workgroup: u32, invocation: Invocation) {
    let own = select(params.segments, 1u, SHARDED);
    let segments = params.rows * own;
    for (var group = workgroup; group * ROWS_PER_WORKGROUP < segments; group += params.workgroups) {
        let index = group * ROWS_PER_WORKGROUP + invocation.row;
        let at = min(index, segments - 1u);
        let row = at / own;
#if label_whole
        let sums = merge_segments(row, invocation);
#end
#if label_apart
        let first = segment_stats[place_of_label(row)];
        let sums = with_label(merge_segments(row, invocation), first.label_logit, first.teacher_label_logit);
#end
        let ignored = (sums.flags & IGNORED) != 0u;
        let segment = segment_at(row, at % own, index < segments && !ignored);
        let reduced = reduce_sweep_sums(sweep_vectors(segment, segment.vectors, invocation, sums), invocation);
        if (index < segments && invocation.lane == 0u) {
            sweep_sums[params.record_offset + index] = SweepSums(reduced.x, reduced.y, reduced.z, params.classes);
        }
    }
}
