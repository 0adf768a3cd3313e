// Query rows are neighbours: row i is at position first + i.

fn position(batch: u32, row: u32) -> u32 {
    return params[2] + row;
}
