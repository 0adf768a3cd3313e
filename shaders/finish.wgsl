// Brings the row of a decoded token to its place among the context's, and before the output head, through the norm that its last step still owes it.
//
// With ROUTED the last layer's depth was decided here: without a step there is nothing to be normalised, and the row is
// what the layer was given. With LEADS the launches that follow steps have run, and are empty until there are steps again,
// see route.wgsl. Constants: DIM, STRIDE elements between rows, EPS, ROUTES of those launches.

@group(0) @binding(next) var<storage, read> x: array<f32>; // [STRIDE], what the last layer was given
#if NORM
@group(0) @binding(next) var<storage, read> update: array<f32>; // [STRIDE], what its last step made of it
@group(0) @binding(next) var<storage, read> norm: array<f32>; // gain [STRIDE], then bias [STRIDE]
#endif
#if ROUTED
@group(0) @binding(next) var<storage, read> routing: array<u32>; // [0] whether the last layer took a step
#endif
#if LEADS
@group(0) @binding(next) var<storage, read_write> routes: array<u32>; // [ROUTES][64], [0] to [2] their sizes
#endif
@group(0) @binding(next) var<storage, read_write> rows: array<f32>; // [context][STRIDE]
@group(0) @binding(next) var<storage, read_write> last: array<f32>; // [STRIDE]
@group(0) @binding(next) var<storage, read> params: array<u32>; // [2] the row's position

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    if unit > 0u {
        return;
    }
#if LEADS
    for (var i = lane; i < ROUTES; i += LANES) {
        routes[i * 64u] = 0u;
    }
#endif
    let to = params[2] * STRIDE;
#if NORM
    let moments = moments_of_update(lane);
#endif
    for (var i = lane; i < STRIDE; i += LANES) {
        var value = x[i];
#if NORM
#if ROUTED
        let owed = routing[0] != 0u;
#else
        let owed = true;
#endif
        let normalised = select(0.0, (update[i] - moments.x) * moments.y * norm[i] + norm[STRIDE + i], i < DIM);
        value = select(value, normalised, owed);
#endif
        rows[to + i] = value;
        last[i] = value;
    }
}
