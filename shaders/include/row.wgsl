// A row as its lanes see it: vectors of four classes.

struct Row {
    student: u32,       // first element of the row in each matrix
    teacher: u32,
    ids: u32,           // first entry of the teacher's list
    grad: u32,
    soft_label: u32,
    misalignment: u32,  // columns before the row that its first vector also covers
    start: u32,         // first vector of the segment
    vectors: u32,       // of the segment; 0: nothing to read
    label: u32,         // with LABEL_APART, the column that is left out of the sums
}

// Vectors that a row's lanes handle at a time.
const TILE_VECTORS: u32 = VECTORS_PER_LANE * LANES;

// Two-level summation bounds the rounding error: a lane sums about this many vectors before it adds their sum to the total.
const VECTORS_PER_PARTIAL_SUM: u32 = 64u;

// Segment `segment` of row `row`. Has no vectors unless `wanted`.
fn segment_at(row: u32, segment: u32, wanted: bool) -> Row {
    let grad = params.grad_offset + row * params.grad_stride;
    let misalignment = grad_misalignment(grad);
    let vectors = (params.classes + misalignment + 3u) / 4u;
    let start = min(segment * params.segment_vectors, vectors);
    return Row(
        params.student_offset + row * params.student_stride,
        params.teacher_offset + row * params.teacher_stride,
        params.id_offset + row * params.teacher_classes,
        grad,
        params.soft_label_offset + row * params.soft_label_stride,
        misalignment,
        start,
        select(0u, min(params.segment_vectors, vectors - start), wanted),
        0xffffffffu,
    );
}

fn row_at(row: u32, wanted: bool) -> Row {
    return segment_at(row, 0u, wanted);
}

// All of row `row`, whatever its segments.
fn whole_row_at(row: u32, wanted: bool) -> Row {
    var whole = segment_at(row, 0u, wanted);
    whole.vectors = select(0u, (params.classes + whole.misalignment + 3u) / 4u, wanted);
    return whole;
}

// The columns of the vector whose first column is `first`. Columns before the row wrap around to huge numbers.
fn columns_of(first: u32) -> vec4<u32> {
    return vec4<u32>(first, first + 1u, first + 2u, first + 3u);
}
