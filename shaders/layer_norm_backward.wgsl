// Layer norm backward to its input, a unit a row. Two means are what the input's own mean and deviation take off each
// value's gradient.
//
// Constants: Element f32 or f16, DIM values of a row.

@group(0) @binding(0) var<storage, read> input: array<Element>; // what was normalised, [rows][DIM]
@group(0) @binding(1) var<storage, read> gain: array<f32>; // [DIM]
@group(0) @binding(2) var<storage, read> moments: array<f32>; // means, then reciprocal deviations, [2][rows]
@group(0) @binding(3) var<storage, read> d_y: array<Element>; // [rows][DIM]
@group(0) @binding(4) var<storage, read_write> d_x: array<Element>; // [rows][DIM]
@group(0) @binding(5) var<storage, read> params: array<u32>; // rows

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    let rows = params[0];
    if unit >= rows {
        return;
    }
    let row = unit * DIM;
    let mean = moments[unit];
    let scale = moments[rows + unit];
    var sums = vec4(0.0);
    for (var i = lane; i < DIM; i += LANES) {
        let normal = (f32(input[row + i]) - mean) * scale;
        let d_normal = f32(d_y[row + i]) * gain[i];
        sums += vec4(d_normal, d_normal * normal, 0.0, 0.0);
    }
    let means = reduce_sum4(sums, lane) / f32(DIM);
    for (var i = lane; i < DIM; i += LANES) {
        let normal = (f32(input[row + i]) - mean) * scale;
        let d_normal = f32(d_y[row + i]) * gain[i];
        d_x[row + i] = Element((d_normal - means.x - normal * means.y) * scale);
    }
}
