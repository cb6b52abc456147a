// The position of an invocation in its workgroup. LANES invocations own a row, or a segment of one; ROWS_PER_WORKGROUP rows share a workgroup.

struct Invocation {
    row: u32,    // of the workgroup's rows
    lane: u32,   // of the row's lanes
    index: u32,  // in the workgroup
}

const ROWS_PER_WORKGROUP: u32 = WORKGROUP_SIZE / LANES;
