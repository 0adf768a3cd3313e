// Attention backward to keys and values, a workgroup a tile of keys of a head. Grid: tiles of keys, heads, batch. A key
// gathers from the rows that saw it, so that nothing is added atomically and sums have one order.
//
// A key belongs to SHARERS neighbouring invocations, as a row does in attention.wgsl, whose constants these are, but
// for the sizes of tiles: TILE_KEYS a workgroup, TILE_ROWS at a time. `delta` comes from attention_backward_q.wgsl.

@group(0) @binding(0) var<storage, read> q: array<Element>; // [batch][rows][Q_STRIDE]
@group(0) @binding(1) var<storage, read> k: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(2) var<storage, read> v: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(D_OUT_BINDING) var<storage, read> d_out: array<Element>; // [batch][rows][OUT_STRIDE]
@group(0) @binding(LSE_BINDING) var<storage, read> lse: array<f32>; // [batch][HEADS][rows]
@group(0) @binding(DELTA_BINDING) var<storage, read> delta: array<f32>; // [batch][HEADS][rows]
@group(0) @binding(D_K_BINDING) var<storage, read_write> d_k: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(D_V_BINDING) var<storage, read_write> d_v: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(PARAMS_BINDING) var<storage, read> params: array<u32>; // rows, keys, first, step

const SHARERS: u32 = WORKGROUP / TILE_KEYS;
const PART: u32 = (HEAD_DIM + SHARERS - 1u) / SHARERS;

var<workgroup> key_rows: array<f32, TILE_KEYS * HEAD_DIM>;
var<workgroup> value_rows: array<f32, TILE_KEYS * HEAD_DIM>;
var<workgroup> queries: array<f32, TILE_ROWS * HEAD_DIM>;
var<workgroup> d_rows: array<f32, TILE_ROWS * HEAD_DIM>;
var<workgroup> weights: array<f32, TILE_KEYS * TILE_ROWS>;
var<workgroup> d_scores: array<f32, TILE_KEYS * TILE_ROWS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let rows = params[0];
    let keys = params[1];
    let head = group.y;
    let batch = group.z;
    let first_key = group.x * TILE_KEYS;
    let tile_keys = min(TILE_KEYS, keys - first_key);
    let mine = lane / SHARERS;
    let part = lane % SHARERS;
    let key = first_key + mine;

    for (var i = lane; i < TILE_KEYS * HEAD_DIM; i += WORKGROUP) {
        let other = batch * keys + first_key + min(i / HEAD_DIM, tile_keys - 1u);
        let at = other * KV_STRIDE + head * HEAD_DIM + i % HEAD_DIM;
        key_rows[i] = f32(k[at]) * SCALE;
        value_rows[i] = f32(v[at]);
    }
    var k_sums: array<f32, PART>;
    var v_sums: array<f32, PART>;
    let seen = mine < tile_keys && is_visible(batch, min(key, keys - 1u));
    for (var first_row = 0u; first_row < rows; first_row += TILE_ROWS) {
        let count = min(TILE_ROWS, rows - first_row);
        // Positions do not fall, so no row of this tile sees a key if its last does not.
        if position(batch, first_row + count - 1u) < first_key {
            continue;
        }
        for (var i = lane; i < count * HEAD_DIM; i += WORKGROUP) {
            let r = batch * rows + first_row + i / HEAD_DIM;
            queries[i] = f32(q[r * Q_STRIDE + head * HEAD_DIM + i % HEAD_DIM]);
            d_rows[i] = f32(d_out[r * OUT_STRIDE + head * HEAD_DIM + i % HEAD_DIM]);
        }
        workgroupBarrier();
        for (var r = part; r < TILE_ROWS; r += SHARERS) {
            let row = first_row + min(r, count - 1u);
            var weight = 0.0;
            var d_score = 0.0;
            if r < count && seen && key <= position(batch, row) {
                var score = 0.0;
                var d_weight = 0.0;
                for (var i = 0u; i < HEAD_DIM; i++) {
                    score += key_rows[mine * HEAD_DIM + i] * queries[r * HEAD_DIM + i];
                    d_weight += value_rows[mine * HEAD_DIM + i] * d_rows[r * HEAD_DIM + i];
                }
                let row_at = (batch * HEADS + head) * rows + row;
                weight = exp(score - lse[row_at]);
                d_score = weight * (d_weight - delta[row_at]) * SCALE;
            }
            weights[mine * TILE_ROWS + r] = weight;
            d_scores[mine * TILE_ROWS + r] = d_score;
        }
        workgroupBarrier();
        for (var n = 0u; n < PART; n++) {
            let i = part + n * SHARERS;
            if i < HEAD_DIM {
                var k_sum = k_sums[n];
                var v_sum = v_sums[n];
                for (var r = 0u; r < count; r++) {
                    k_sum += d_scores[mine * TILE_ROWS + r] * queries[r * HEAD_DIM + i];
                    v_sum += weights[mine * TILE_ROWS + r] * d_rows[r * HEAD_DIM + i];
                }
                k_sums[n] = k_sum;
                v_sums[n] = v_sum;
            }
        }
        workgroupBarrier();
    }
    if mine >= tile_keys {
        return;
    }
    let at = (batch * keys + key) * KV_STRIDE + head * HEAD_DIM;
    for (var n = 0u; n < PART; n++) {
        let i = part + n * SHARERS;
        if i < HEAD_DIM {
            d_k[at + i] = Element(k_sums[n]);
            d_v[at + i] = Element(v_sums[n]);
        }
    }
}
