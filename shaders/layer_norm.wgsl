// Layer norm of rows, a workgroup a row.
//
// Constants: DIM values of a row, STRIDE elements between rows (those after DIM become zero), EPS.

@group(0) @binding(0) var<storage, read> x: array<f32>; // [rows][STRIDE]
@group(0) @binding(1) var<storage, read> gain: array<f32>; // [STRIDE]
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [STRIDE]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows][STRIDE]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x * STRIDE;
    var sum = 0.0;
    for (var i = lane; i < DIM; i += WORKGROUP) {
        sum += x[row + i];
    }
    let mean = reduce_sum(sum, lane) / f32(DIM);
    // A second pass, as the difference of two large numbers would lose digits.
    var squares = 0.0;
    for (var i = lane; i < DIM; i += WORKGROUP) {
        let d = x[row + i] - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(reduce_sum(squares, lane) / f32(DIM) + EPS);
    for (var i = lane; i < STRIDE; i += WORKGROUP) {
        y[row + i] = select(0.0, (x[row + i] - mean) * scale * gain[i] + bias[i], i < DIM);
    }
}
