// Layer norm of rows (Ba, Kiros and Hinton 2016), or of the sums of two, and what the backward pass needs. A unit a row.
//
// Constants: Element f32 or f16, DIM values of a row.

@group(0) @binding(next) var<storage, read> x: array<Element>; // [rows][DIM]
#if RESIDUAL
@group(0) @binding(next) var<storage, read> residual: array<Element>; // [rows][DIM]
#endif
@group(0) @binding(next) var<storage, read> gain: array<f32>; // [DIM]
@group(0) @binding(next) var<storage, read> bias: array<f32>; // [DIM]
#if RESIDUAL
@group(0) @binding(next) var<storage, read_write> sums: array<Element>; // [rows][DIM]
#endif
@group(0) @binding(next) var<storage, read_write> y: array<Element>; // [rows][DIM]
@group(0) @binding(next) var<storage, read_write> moments: array<f32>; // means, then reciprocal deviations, [2][rows]
@group(0) @binding(next) var<storage, read> params: array<u32>; // rows, the bits of what is added to variances

// What is normalised.
fn input(at: u32) -> f32 {
#if RESIDUAL
    return f32(sums[at]);
#else
    return f32(x[at]);
#endif
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    let rows = params[0];
    if unit >= rows {
        return;
    }
    let row = unit * DIM;
    var sum = 0.0;
    // Every lane reads again only what it wrote itself.
    for (var i = lane; i < DIM; i += LANES) {
#if RESIDUAL
        sums[row + i] = x[row + i] + residual[row + i];
#endif
        sum += input(row + i);
    }
    let mean = reduce_sum(sum, lane) / f32(DIM);
    // A second pass, as the difference of two large numbers would lose digits.
    var squares = 0.0;
    for (var i = lane; i < DIM; i += LANES) {
        let d = input(row + i) - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(reduce_sum(squares, lane) / f32(DIM) + bitcast<f32>(params[1]));
    for (var i = lane; i < DIM; i += LANES) {
        y[row + i] = Element((input(row + i) - mean) * scale * gain[i] + bias[i]);
    }
    if lane == 0u {
        moments[unit] = mean;
        moments[rows + unit] = scale;
    }
}
