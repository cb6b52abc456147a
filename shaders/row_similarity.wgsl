// row_similarity: the second sweep over the pieces of a row, for similarities that need the row's normalisers first.
//
//   jensen-shannon  sum p log2(2p/(p+q)) + q log2(2q/(p+q))      overlap  sum min(p, q)      over the classes of a piece
//
// student_logits, teacher_logits: [rows, classes]; piece_stats, swept: [rows, pieces]. LANES invocations own a piece.
// Each merges the statistics of all pieces of its row for itself, which is less than a dispatch, then reads each logit once. f32.

#import params
#import types
#import sums
#import place
#import similarity
#import sweep
#import merge
#import store_none
#import $STUDENT_ROWS THIS=student
#import $TEACHER_ROWS THIS=teacher
#import $REDUCE

$STUDENT_BINDING
$TEACHER_BINDING
@group(0) @binding(5) var<storage, read> piece_stats: array<RowStats>;  // [rows, pieces]
@group(0) @binding(8) var<storage, read_write> swept: array<f32>;  // [rows, pieces]

fn kernel(workgroup: u32, place: Place) {
    let pieces = params.rows * params.pieces;
    for (var block = workgroup; block * ROWS_PER_WORKGROUP < pieces; block += params.workgroups) {
        let index = block * ROWS_PER_WORKGROUP + place.row;
        let at = min(index, pieces - 1u);
        let row = at / params.pieces;
        let sums = merge_pieces(row, place);
        let ignored = (sums.flags & IGNORED) != 0u;
        let piece = piece_at(row, at % params.pieces, index < pieces && !ignored);
        let sum = reduce_add(sweep_units(piece, piece.units, place, sums), place);
        if (index < pieces && place.lane == 0u) {
            swept[index] = sum;
        }
    }
}
