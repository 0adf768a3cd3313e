// y = act(x · weightsᵀ + bias) + residual for many rows.
//
// A workgroup makes a tile of 64 rows by 64 columns of y, 16 columns of x and weights at a time in shared memory, each of
// its 256 invocations 4 by 4 values; where barriers are expensive every invocation makes its 4 by 4 values from memory.
//
// Constants: ROWS of the weights, which are columns of y, EIGHTS columns of them in eights, Y_STRIDE elements between rows
// of y and of the residual.

@group(0) @binding(next) var<storage, read> x: array<vec4<f32>>; // [rows][8 EIGHTS]
@group(0) @binding(next) var<storage, read> weights: array<WEIGHT>; // [ROWS][8 EIGHTS]
#if BIAS
@group(0) @binding(next) var<storage, read> bias: array<f32>; // [ROWS]
#endif
#if RESIDUAL
@group(0) @binding(next) var<storage, read> residual: array<f32>; // [rows][Y_STRIDE]
#endif
@group(0) @binding(next) var<storage, read_write> y: array<f32>; // [rows][Y_STRIDE]
@group(0) @binding(next) var<storage, read> params: array<u32>; // [0] rows

// Writes the value at a row and column of y, if they exist.
fn put(row: u32, column: u32, sum: f32) {
    if row >= params[0] || column >= ROWS {
        return;
    }
    var value = sum;
#if BIAS
    value += bias[column];
#endif
    value = activate(value);
#if RESIDUAL
    value += residual[row * Y_STRIDE + column];
#endif
    y[row * Y_STRIDE + column] = value;
}

#if PORTABLE
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = group.x * 4u;
    let column = (group.y * WORKGROUP + local) * 4u;
    let last_row = params[0] - 1u;
    if row > last_row || column >= ROWS {
        return;
    }
    let rows = min(vec4(row, row + 1u, row + 2u, row + 3u), vec4(last_row)) * (EIGHTS * 2u);
    var sums: array<vec4<f32>, 4>;
    for (var i = 0u; i < EIGHTS; i++) {
        for (var c = 0u; c < 4u; c++) {
            let w = weights8(min(column + c, ROWS - 1u), i);
            sums[c] += vec4(
                dot(w[0], x[rows.x + i * 2u]) + dot(w[1], x[rows.x + i * 2u + 1u]),
                dot(w[0], x[rows.y + i * 2u]) + dot(w[1], x[rows.y + i * 2u + 1u]),
                dot(w[0], x[rows.z + i * 2u]) + dot(w[1], x[rows.z + i * 2u + 1u]),
                dot(w[0], x[rows.w + i * 2u]) + dot(w[1], x[rows.w + i * 2u + 1u]),
            );
        }
    }
    for (var r = 0u; r < 4u; r++) {
        for (var c = 0u; c < 4u; c++) {
            put(row + r, column + c, sums[c][r]);
        }
    }
}
#else
const TILE: u32 = 64u;

// By column in fours, then row: neighbouring invocations read neighbouring elements.
var<workgroup> x_tile: array<vec4<f32>, 256>; // [4][TILE]
var<workgroup> weights_tile: array<vec4<f32>, 256>; // [4][TILE]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let rows = params[0];
    let row = group.x * TILE + local / 16u * 4u;
    let column = group.y * TILE + local % 16u * 4u;
    var sums: array<vec4<f32>, 4>;
    for (var i = 0u; i < EIGHTS; i += 2u) {
        let source = group.x * TILE + local % TILE;
        let four = local / TILE;
        var loaded = vec4(0.0);
        if source < rows && i * 2u + four < EIGHTS * 2u {
            loaded = x[source * EIGHTS * 2u + i * 2u + four];
        }
        x_tile[four * TILE + local % TILE] = loaded;
        if local < 2u * TILE {
            let eight = i + local / TILE;
            var w = mat2x4<f32>();
            if group.y * TILE + local % TILE < ROWS && eight < EIGHTS {
                w = weights8(group.y * TILE + local % TILE, eight);
            }
            weights_tile[local / TILE * 2u * TILE + local % TILE] = w[0];
            weights_tile[(local / TILE * 2u + 1u) * TILE + local % TILE] = w[1];
        }
        workgroupBarrier();
        for (var k = 0u; k < 4u; k++) {
            let a = k * TILE + local / 16u * 4u;
            let b = k * TILE + local % 16u * 4u;
            for (var c = 0u; c < 4u; c++) {
                let w = weights_tile[b + c];
                sums[c] += vec4(
                    dot(w, x_tile[a]),
                    dot(w, x_tile[a + 1u]),
                    dot(w, x_tile[a + 2u]),
                    dot(w, x_tile[a + 3u]),
                );
            }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 4u; r++) {
        for (var c = 0u; c < 4u; c++) {
            put(row + r, column + c, sums[c][r]);
        }
    }
}
#endif
