// Token embeddings, with what is added for the position and the layer norm that may follow. A unit a row.
//
// Constants: DIM values of a row, STRIDE elements between rows, EIGHTS columns of the table in eights, EPS.

@group(0) @binding(next) var<storage, read> ids: array<u32>; // [context]
@group(0) @binding(next) var<storage, read> weights: array<WEIGHT>; // the table, [vocab][8 EIGHTS]
#if POSITIONS
@group(0) @binding(next) var<storage, read> positions: array<vec4<f32>>; // [context][STRIDE]
#endif
#if NORM
@group(0) @binding(next) var<storage, read> norm: array<vec4<f32>>; // gain [STRIDE], then bias [STRIDE]
#endif
@group(0) @binding(next) var<storage, read_write> y: array<vec4<f32>>; // [rows][STRIDE]
@group(0) @binding(next) var<storage, read> params: array<u32>; // [0] rows, [2] position of the first

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    if unit >= params[0] {
        return;
    }
    let position = params[2] + unit;
    let id = ids[position];
    let row = unit * (STRIDE / 4u);
    var sum = 0.0;
    // Every lane reads again only what it wrote itself.
    for (var i = lane; i < EIGHTS; i += LANES) {
        let w = weights8(id, i);
        var low = w[0];
        var high = w[1];
#if POSITIONS
        low += positions[position * (STRIDE / 4u) + i * 2u];
        high += positions[position * (STRIDE / 4u) + i * 2u + 1u];
#endif
        sum += dot(low, vec4(1.0)) + dot(high, vec4(1.0));
        y[row + i * 2u] = low;
        y[row + i * 2u + 1u] = high;
    }
#if NORM
    let mean = reduce_sum(sum, lane) / f32(DIM);
    var squares = 0.0;
    for (var i = lane; i < EIGHTS; i += LANES) {
        for (var half = 0u; half < 2u; half++) {
            let at = (i * 2u + half) * 4u;
            let d = select(
                vec4(0.0),
                y[row + i * 2u + half] - mean,
                vec4(at, at + 1u, at + 2u, at + 3u) < vec4(DIM),
            );
            squares += dot(d, d);
        }
    }
    let scale = inverseSqrt(reduce_sum(squares, lane) / f32(DIM) + EPS);
    for (var i = lane; i < EIGHTS; i += LANES) {
        for (var half = 0u; half < 2u; half++) {
            let at = i * 2u + half;
            y[row + at] = (y[row + at] - mean) * scale * norm[at] + norm[STRIDE / 4u + at];
        }
    }
#endif
}
