// Who works on what. LANES invocations own a row, ROWS_PER_WORKGROUP rows share a workgroup.

struct Place {
    row: u32,    // of the workgroup's rows
    lane: u32,   // of the row's lanes
    index: u32,  // in the workgroup
}

// Element ranges of one row.
struct Row {
    student: u32,
    teacher: u32,
    grad: u32,
    head: u32,   // columns before the first that its first unit also covers
    units: u32,  // of 4 columns; 0 where the row is not to be looked at
}

const ROWS_PER_WORKGROUP: u32 = WORKGROUP_SIZE / LANES;

fn row_at(row: u32, wanted: bool) -> Row {
    let grad = params.grad_offset + row * params.grad_stride;
    let head = grad_head(grad);
    return Row(
        params.student_offset + row * params.student_stride,
        params.teacher_offset + row * params.teacher_stride,
        grad,
        head,
        select(0u, (params.classes + head + 3u) / 4u, wanted),
    );
}
