// Query rows were gathered: row i is at position first + positions[i]. Positions must not fall from row to row.

@group(0) @binding(POSITIONS_BINDING) var<storage, read> positions: array<u32>; // [batch][rows]

fn position(batch: u32, row: u32) -> u32 {
    return params[2] + positions[batch * params[0] + row];
}
