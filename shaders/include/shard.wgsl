// A slice of the classes. Labels are numbers among all classes, and kernels compare them with columns.

// The column of a class of the slice, else a number that no column has.
fn column_of(label: i32) -> i32 {
    let column = u32(label) - params.first_class;
    return select(i32(0x80000000u), i32(column), column < params.classes);
}
