// Rotary positions of rows in place (Su et al. 2021): the pair (i, i + HALF) of each head by the angle of the row's
// position. A unit a pair. Its backward pass is the same with the other SIGN.
//
// Every variant is the portable one, since invocations share nothing. Constants: Element f32 or f16, DIM values of a row,
// PAIRS of a row, HEAD_DIM, HALF of it, SIGN of the angles.

@group(0) @binding(next) var<storage, read_write> x: array<Element>; // [batch][seq][DIM]
@group(0) @binding(next) var<storage, read> angles: array<vec2<f32>>; // cosine and sine, [positions][HALF]
#if INDEXED
@group(0) @binding(next) var<storage, read> positions: array<u32>; // [batch][seq]
#endif
@group(0) @binding(next) var<storage, read> params: array<u32>; // pairs in all, seq

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    if unit >= params[0] {
        return;
    }
    let row = unit / PAIRS;
    let pair = unit % PAIRS;
#if INDEXED
    let position = positions[row];
#else
    let position = row % params[1];
#endif
    let angle = angles[position * HALF + pair % HALF];
    let sine = SIGN * angle.y;
    let first = row * DIM + pair / HALF * HEAD_DIM + pair % HALF;
    let a = f32(x[first]);
    let b = f32(x[first + HALF]);
    x[first] = Element(a * angle.x - b * sine);
    x[first + HALF] = Element(b * angle.x + a * sine);
}
