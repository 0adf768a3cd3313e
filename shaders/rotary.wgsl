// Takes rows of queries, keys and values apart: queries to a buffer of their own, keys and values into the cache at their
// positions. Where positions are rotary, queries and keys are rotated: the pair (i, i + HEAD_DIM / 2) of a head by the
// angle of its position (Su et al. 2021). Workgroups along x are
// rows, along y pairs or values of a row.
//
// Constants: DIM values of queries, keys and values each, HEAD_DIM, QKV_STRIDE and STRIDE elements between rows, UNITS of a
// row.

@group(0) @binding(next) var<storage, read> qkv: array<f32>; // [rows][QKV_STRIDE]
#if ROTARY
@group(0) @binding(next) var<storage, read> angles: array<vec2<f32>>; // cosine and sine, [context][HEAD_DIM / 2]
#endif
#if INDEXED
@group(0) @binding(next) var<storage, read> positions: array<u32>; // after the first, [rows]
#endif
@group(0) @binding(next) var<storage, read_write> queries: array<f32>; // [rows][STRIDE]
@group(0) @binding(next) var<storage, read_write> keys: array<f32>; // [context][STRIDE]
@group(0) @binding(next) var<storage, read_write> values: array<f32>; // [context][STRIDE]
@group(0) @binding(next) var<storage, read> params: array<u32>; // [0] rows, [2] position of the first

fn put(row: u32, position: u32, column: u32, value: f32) {
    if column < DIM {
        queries[row * STRIDE + column] = value;
    } else if column < 2u * DIM {
        keys[position * STRIDE + column - DIM] = value;
    } else {
        values[position * STRIDE + column - 2u * DIM] = value;
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = group.y * WORKGROUP + local;
    let row = group.x;
    if unit >= UNITS || row >= params[0] {
        return;
    }
#if INDEXED
    let position = params[2] + positions[row];
#else
    let position = params[2] + row;
#endif
#if ROTARY
    let half = HEAD_DIM / 2u;
    let first = unit / half * HEAD_DIM + unit % half;
    var a = qkv[row * QKV_STRIDE + first];
    var b = qkv[row * QKV_STRIDE + first + half];
    if first < 2u * DIM {
        let angle = angles[position * half + unit % half];
        let rotated = a * angle.x - b * angle.y;
        b = b * angle.x + a * angle.y;
        a = rotated;
    }
    put(row, position, first, a);
    put(row, position, first + half, b);
#else
    put(row, position, unit, qkv[row * QKV_STRIDE + unit]);
#endif
}
