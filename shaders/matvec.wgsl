// y = act(weights · x + bias) + residual for one row, where x and the residual may be read through a layer norm: the
// normalised row is never written, since every unit can afford to compute its mean and variance again. A unit makes
// UNIT_ROWS values of y.
//
// With QKV the values are queries, keys and values, one below the other: queries go to y, keys and values into the cache
// at the row's position, queries and keys rotated by it where positions are rotary. A unit's values are then pairs that
// are rotated together (Su et al. 2021).
//
// Constants: ROWS of the weights, EIGHTS columns of them in eights, DIM columns that count in a norm, EPS;
// RESIDUAL_STRIDE of the residual's norm; HEAD_DIM, CACHE_STRIDE and PAIR, the distance between values rotated together.

@group(0) @binding(next) var<storage, read> x: array<vec4<f32>>; // [8 EIGHTS]
@group(0) @binding(next) var<storage, read> weights: array<WEIGHT>; // [ROWS][8 EIGHTS]
#if BIAS
@group(0) @binding(next) var<storage, read> bias: array<f32>; // [ROWS]
#endif
#if NORM
@group(0) @binding(next) var<storage, read> norm: array<vec4<f32>>; // gain [8 EIGHTS], then bias [8 EIGHTS]
#endif
#if RESIDUAL
@group(0) @binding(next) var<storage, read> residual: array<f32>; // [ROWS]
#if RESIDUAL_NORM
@group(0) @binding(next) var<storage, read> residual_norm: array<f32>; // gain [RESIDUAL_STRIDE], then bias
#endif
#endif
@group(0) @binding(next) var<storage, read_write> y: array<f32>; // [ROWS]
#if QKV
@group(0) @binding(next) var<storage, read_write> keys: array<f32>; // [context][CACHE_STRIDE]
@group(0) @binding(next) var<storage, read_write> values: array<f32>; // [context][CACHE_STRIDE]
#if ROTARY
@group(0) @binding(next) var<storage, read> angles: array<vec2<f32>>; // cosine and sine, [context][HEAD_DIM / 2]
#endif
@group(0) @binding(next) var<storage, read> params: array<u32>; // [2] the row's position
#endif

// `v`, zero where it is not below DIM; `at` is the index of its first element.
fn inside(v: vec4<f32>, at: u32) -> vec4<f32> {
    return select(vec4(0.0), v, vec4(at, at + 1u, at + 2u, at + 3u) < vec4(DIM));
}

// The row of the weights that a unit has at `r`.
fn row_of(unit: u32, r: u32) -> u32 {
#if ROTARY
    let pair = unit * (UNIT_ROWS / 2u) + r / 2u;
    return pair / PAIR * 2u * PAIR + pair % PAIR + r % 2u * PAIR;
#else
    return unit * UNIT_ROWS + r;
#endif
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    if unit * UNIT_ROWS >= ROWS {
        return;
    }
#if NORM
    var sum = 0.0;
    for (var i = lane; i < EIGHTS * 2u; i += LANES) {
        sum += dot(x[i], vec4(1.0));
    }
    let mean = reduce_sum(sum, lane) / f32(DIM);
    var squares = 0.0;
    for (var i = lane; i < EIGHTS * 2u; i += LANES) {
        let d = inside(x[i] - mean, i * 4u);
        squares += dot(d, d);
    }
    let scale = inverseSqrt(reduce_sum(squares, lane) / f32(DIM) + EPS);
#endif
#if RESIDUAL_NORM
    var residual_sum = 0.0;
    for (var i = lane; i < ROWS; i += LANES) {
        residual_sum += residual[i];
    }
    let residual_mean = reduce_sum(residual_sum, lane) / f32(ROWS);
    var residual_squares = 0.0;
    for (var i = lane; i < ROWS; i += LANES) {
        let d = residual[i] - residual_mean;
        residual_squares += d * d;
    }
    let residual_scale = inverseSqrt(reduce_sum(residual_squares, lane) / f32(ROWS) + EPS);
#endif
    var sums: array<f32, UNIT_ROWS>;
    for (var i = lane; i < EIGHTS; i += LANES) {
        var low = x[i * 2u];
        var high = x[i * 2u + 1u];
#if NORM
        // Gain and bias are zero after DIM.
        low = (low - mean) * scale * norm[i * 2u] + norm[(EIGHTS + i) * 2u];
        high = (high - mean) * scale * norm[i * 2u + 1u] + norm[(EIGHTS + i) * 2u + 1u];
#endif
#repeat UNIT_ROWS
        {
            let w = weights8(min(row_of(unit, $i), ROWS - 1u), i);
            sums[$i] += dot(w[0], low) + dot(w[1], high);
        }
#end
    }
#if !PORTABLE
    let all = reduce_sum4(vec4(sums[0], sums[1], sums[2], sums[3]), lane);
    sums = array(all[0], all[1], all[2], all[3]);
#endif
    if lane != 0u {
        return;
    }
#if QKV
    let position = params[2];
    let third = ROWS / 3u;
#if ROTARY
    for (var r = 0u; r < UNIT_ROWS; r += 2u) {
        let first = row_of(unit, r);
        if first < 2u * third {
            let angle = angles[position * PAIR + first % HEAD_DIM];
            let pair = vec2(sums[r], sums[r + 1u]);
            sums[r] = pair.x * angle.x - pair.y * angle.y;
            sums[r + 1u] = pair.y * angle.x + pair.x * angle.y;
        }
    }
#endif
#endif
    for (var r = 0u; r < UNIT_ROWS; r++) {
        let row = row_of(unit, r);
        if row < ROWS {
            var value = sums[r];
#if BIAS
            value += bias[row];
#endif
            value = activate(value);
#if RESIDUAL
#if RESIDUAL_NORM
            value += (residual[row] - residual_mean) * residual_scale * residual_norm[row]
                + residual_norm[RESIDUAL_STRIDE + row];
#else
            value += residual[row];
#endif
#endif
#if QKV
            if row < third {
                y[row] = value;
            } else if row < 2u * third {
                keys[position * CACHE_STRIDE + row - third] = value;
            } else {
                values[position * CACHE_STRIDE + row - 2u * third] = value;
            }
#else
            y[row] = value;
#endif
        }
    }
}
