// Layer norm of rows, an invocation a row. Constants as in layer_norm.wgsl.

@group(0) @binding(0) var<storage, read> x: array<f32>; // [rows][STRIDE]
@group(0) @binding(1) var<storage, read> gain: array<f32>; // [STRIDE]
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [STRIDE]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows][STRIDE]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x * STRIDE;
    if row >= arrayLength(&y) {
        return;
    }
    var sum = 0.0;
    for (var i = 0u; i < DIM; i++) {
        sum += x[row + i];
    }
    let mean = sum / f32(DIM);
    var squares = 0.0;
    for (var i = 0u; i < DIM; i++) {
        let d = x[row + i] - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(squares / f32(DIM) + EPS);
    for (var i = 0u; i < STRIDE; i++) {
        y[row + i] = select(0.0, (x[row + i] - mean) * scale * gain[i] + bias[i], i < DIM);
    }
}
