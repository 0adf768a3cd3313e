// Layer norm backward to gain and bias: their sums over chunks of rows, which layer_norm_backward_sum.wgsl adds up. An
// invocation a column of a chunk, so that neighbours read neighbours.
//
// Grid: columns in groups of WORKGROUP, chunks. Every variant is this one, since invocations share nothing. Constants:
// Element f32 or f16, DIM values of a row.

@group(0) @binding(0) var<storage, read> input: array<Element>; // what was normalised, [rows][DIM]
@group(0) @binding(1) var<storage, read> moments: array<f32>; // means, then reciprocal deviations, [2][rows]
@group(0) @binding(2) var<storage, read> d_y: array<Element>; // [rows][DIM]
@group(0) @binding(3) var<storage, read_write> sums: array<vec2<f32>>; // of gain and bias, [chunks][DIM]
@group(0) @binding(4) var<storage, read> params: array<u32>; // rows, rows of a chunk

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let column = group.x * WORKGROUP + local;
    if column >= DIM {
        return;
    }
    let rows = params[0];
    let end = min(rows, (group.y + 1u) * params[1]);
    var sum = vec2(0.0);
    for (var row = group.y * params[1]; row < end; row++) {
        let normal = (f32(input[row * DIM + column]) - moments[row]) * moments[rows + row];
        let d = f32(d_y[row * DIM + column]);
        sum += vec2(d * normal, d);
    }
    sums[group.y * DIM + column] = sum;
}
