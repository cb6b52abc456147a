// A row's sums from the statistics of its pieces.

fn sums_of(piece: RowStats) -> Sums {
    let log2e = 1.4426950408889634;
    return Sums(
        piece.student_max,
        piece.teacher_max,
        piece.student_sum,
        piece.teacher_sum,
        piece.difference * log2e,
        piece.moment * log2e,
        piece.cross,
        piece.student_square,
        piece.teacher_square,
        piece.student_offset * log2e,
        piece.student_count,
        piece.masked_mass,
        piece.flags,
    );
}

// Every lane of the row gets them. Must be called in uniform control flow.
fn merge_pieces(row: u32, place: Place) -> Sums {
    var sums = sums_identity();
    for (var i = place.lane; i < params.pieces; i += LANES) {
        sums = combine_sums(sums, sums_of(piece_stats[row * params.pieces + i]));
    }
    return reduce_sums(sums, place);
}
