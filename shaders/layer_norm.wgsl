// Layer norm of rows (Ba, Kiros and Hinton 2016), a unit a row.
//
// Constants: DIM values of a row, STRIDE elements between rows (those after DIM become zero), EPS.

@group(0) @binding(next) var<storage, read> x: array<f32>; // [rows][STRIDE]
@group(0) @binding(next) var<storage, read> norm: array<f32>; // gain [STRIDE], then bias [STRIDE]
@group(0) @binding(next) var<storage, read_write> y: array<f32>; // [rows][STRIDE]
@group(0) @binding(next) var<storage, read> params: array<u32>; // [0] rows

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    if unit >= params[0] {
        return;
    }
    let row = unit * STRIDE;
    var sum = 0.0;
    for (var i = lane; i < DIM; i += LANES) {
        sum += x[row + i];
    }
    let mean = reduce_sum(sum, lane) / f32(DIM);
    // A second pass, as the difference of two large numbers would lose digits.
    var squares = 0.0;
    for (var i = lane; i < DIM; i += LANES) {
        let d = x[row + i] - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(reduce_sum(squares, lane) / f32(DIM) + EPS);
    for (var i = lane; i < STRIDE; i += LANES) {
        y[row + i] = select(0.0, (x[row + i] - mean) * scale * norm[i] + norm[STRIDE + i], i < DIM);
    }
}
