// Sums of columns over chunks of rows: sums[c][j] adds up x[i][j] over the rows i of chunk c. On its own result, as one
// chunk, it gives the sums over all rows. An invocation a column of a chunk, so that neighbours read neighbours.
//
// Grid: columns in groups of WORKGROUP, chunks. Every variant is this one, since invocations share nothing. Constants:
// Element f32 or f16, DIM values of a row.

@group(0) @binding(0) var<storage, read> x: array<Element>; // [rows][DIM]
@group(0) @binding(1) var<storage, read_write> sums: array<f32>; // [chunks][DIM]
@group(0) @binding(2) var<storage, read> params: array<u32>; // rows, rows of a chunk

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let column = group.x * WORKGROUP + local;
    if column >= DIM {
        return;
    }
    let end = min(params[0], (group.y + 1u) * params[1]);
    var sum = 0.0;
    for (var row = group.y * params[1]; row < end; row++) {
        sum += f32(x[row * DIM + column]);
    }
    sums[group.y * DIM + column] = sum;
}
