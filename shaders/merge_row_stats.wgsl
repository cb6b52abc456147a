// merge_row_stats: the statistics of each row from those of its segments, and the similarity of its two distributions (KDR).
//
//   ms = max of the segments' ms; every sum is rescaled to it and added: the merge of the monoid in include/sums.wgsl
//
// segment_stats, sweep_sums: [rows, segments]; row_stats: [rows]. sweep_sums: from `second_sweep`, if similarity or divergence need it.
// Slices of the classes are merged as segments are, from lists [shards, rows]. A row whose shards do not cover all classes counts as a row with
// NaN among its logits.
// LANES invocations own a row and read each of its segments once. Sums are f32, merged in a fixed order.
// Beside a list, the segments have the classes off it. This kernel reads the list and the student's logits of its classes, adds them and the
// tail, and sweeps over these k + 1 classes.

@group(0) @binding(0) var<uniform> params: Params;
#if listed
@group(0) @binding(1) var<storage, $INPUT_ACCESS> student_logits: array<StudentWord>;  // [rows, student_stride]
@group(0) @binding(2) var<storage, $INPUT_ACCESS> teacher_logits: array<TeacherWord>;  // [rows, teacher_stride]
#end
@group(0) @binding(5) var<storage, read> segment_stats: array<RowStats>;  // [rows, segments]
@group(0) @binding(6) var<storage, read_write> partials: array<PartialSummary>;  // [workgroups], KDR and counts
#if not_listed
@group(0) @binding(7) var<storage, read> sweep_sums: array<SweepSums>;  // [rows, segments]
#end
@group(0) @binding(8) var<storage, read_write> row_stats: array<RowStats>;  // [rows]
#if listed
@group(0) @binding(10) var<storage, $INPUT_ACCESS> teacher_ids: array<i32>;  // [rows, teacher_classes]
#end

#import params
#import types
#import sums
#import invocation
#if teacher_known
#import similarity
#end
#import sweep_sums
#import complete
#import label_apart
#import merge
#import partial
#import accumulator
#import $REDUCE
#if listed
#import row
#import sweep
#import observe_list
#import student
#import teacher
#import $STUDENT_ROWS THIS=student
#import $TEACHER_ROWS THIS=teacher
#import aligned
#end

#if sharded
// The merged sums of a row with the flags of labels that no shard has, and of rows that the shards do not cover.
fn checked_shards(merged: Sums, row: u32) -> Sums {
    var sums = merged;
    var covered = vec2<u32>();
    for (var i = 0u; i < params.segments; i++) {
        let place = place_of(row, i);
        covered.x += segment_stats[place].shard_classes;
        if (SECOND_SWEEP) {
            covered.y += sweep_sums[place].classes;
        }
    }
    let swept = !SECOND_SWEEP || covered.y == params.all_classes;
    sums.flags |= select(NON_FINITE, 0u, covered.x == params.all_classes && swept);
    let elsewhere = (segment_stats[place_of_label(row)].flags & LABEL_ELSEWHERE) != 0u;
    sums.flags |= select(0u, INVALID_LABEL, elsewhere);
    return sums;
}
#end

fn kernel(workgroup: u32, invocation: Invocation) {
    var accumulator: SummaryAccumulator;
    for (var group = workgroup; group * ROWS_PER_WORKGROUP < params.rows; group += params.workgroups) {
        let index = group * ROWS_PER_WORKGROUP + invocation.row;
        let exists = index < params.rows;
        let at = min(index, params.rows - 1u);
#if whole_classes
        let merged = merge_segments(at, invocation);
#end
#if sharded
        let merged = checked_shards(merge_segments(at, invocation), at);
#end
        let first = segment_stats[place_of_label(at)];
#if row_whole
        let sums = in_nats(merged);
#end
#if listed
        let wanted = exists && (merged.flags & IGNORED) == 0u;
        let row = whole_row_at(at, wanted);
        let valid = read_list(row, invocation, wanted);
        let sums = in_nats(with_list(row, invocation, merged, valid, wanted));
#end
#if label_apart
        let sums = in_nats(with_label(merged, first.label_logit, first.teacher_label_logit));
#end
        var sweeps = vec3<f32>();
#if listed
        if (SECOND_SWEEP) {
            sweeps = reduce_sweep_sums(sweep_list(row, invocation, sums, wanted), invocation);
        }
#end
#if not_listed
        if (SECOND_SWEEP) {
            for (var i = invocation.lane; i < params.segments; i += LANES) {
                let part = sweep_sums[place_of(at, i)];
                sweeps += vec3<f32>(part.similarity, part.first, part.second);
            }
            sweeps = reduce_sweep_sums(sweeps, invocation);
        }
#end
        var whole = stats_from(sums, first.label, first.label_logit, first.teacher_label_logit, first.weight);
#if label_weighted
        whole.class_weight = first.class_weight;
#end
#if row_whole
        let stats = complete_stats(whole, sums, sweeps);
#end
#if listed
        let stats = with_tail(complete_stats(whole, sums, sweeps));
#end
#if label_apart
        let stats = with_rest(complete_stats(whole, sums, sweeps), in_nats(merged));
#end
        if (exists && invocation.lane == 0u) {
            row_stats[index] = stats;
            add_row(&accumulator, partial_of(RowResult(0u, stats.kdr, 0u, stats.flags), 1.0));
        }
    }
    let sum = reduce_accumulators(accumulator, invocation);
    if (invocation.row == 0u && invocation.lane == 0u) {
        partials[params.partial_offset + workgroup] = sum;
    }
}
