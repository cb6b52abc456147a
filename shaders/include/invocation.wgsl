// Who works on what. LANES invocations own a row, or a segment of one; ROWS_PER_WORKGROUP of them share a workgroup.

struct Invocation {
    row: u32,    // of the workgroup's rows
    lane: u32,   // of the row's lanes
    index: u32,  // in the workgroup
}

// Element ranges of one row, and the segment of it that is looked at.
struct Row {
    student: u32,
    teacher: u32,
    grad: u32,
    head: u32,   // columns before the first that the row's first unit also covers
    start: u32,  // first unit of the segment, a unit being 4 columns
    units: u32,  // of the segment; 0 where it is not to be looked at
}

const ROWS_PER_WORKGROUP: u32 = WORKGROUP_SIZE / LANES;
// Units that a row's lanes handle at a time.
const TILE_VECTORS: u32 = VECTORS_PER_LANE * LANES;

fn segment_at(row: u32, segment: u32, wanted: bool) -> Row {
    let grad = params.grad_offset + row * params.grad_stride;
    let head = grad_head(grad);
    let units = (params.classes + head + 3u) / 4u;
    let start = min(segment * params.segment_vectors, units);
    return Row(
        params.student_offset + row * params.student_stride,
        params.teacher_offset + row * params.teacher_stride,
        grad,
        head,
        start,
        select(0u, min(params.segment_vectors, units - start), wanted),
    );
}

fn row_at(row: u32, wanted: bool) -> Row {
    return segment_at(row, 0u, wanted);
}

fn columns_of(first: u32) -> vec4<u32> {
    return vec4<u32>(first, first + 1u, first + 2u, first + 3u);
}
