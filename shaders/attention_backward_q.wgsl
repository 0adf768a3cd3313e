// Attention backward to the queries, a workgroup a tile of query rows of a head. Grid: tiles of rows, heads, batch.
// Weights are computed again from the scores and the rows' logarithms that the forward pass left.
//
// Invocations share rows as in attention.wgsl, and constants are as there. `delta`, the product of each row's output
// and its gradient, is what the softmax takes off every score's gradient; attention_backward_kv.wgsl needs it too.

@group(0) @binding(0) var<storage, read> q: array<Element>; // [batch][rows][Q_STRIDE]
@group(0) @binding(1) var<storage, read> k: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(2) var<storage, read> v: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(OUT_BINDING) var<storage, read> out: array<Element>; // [batch][rows][OUT_STRIDE]
@group(0) @binding(D_OUT_BINDING) var<storage, read> d_out: array<Element>; // [batch][rows][OUT_STRIDE]
@group(0) @binding(LSE_BINDING) var<storage, read> lse: array<f32>; // [batch][HEADS][rows]
@group(0) @binding(D_Q_BINDING) var<storage, read_write> d_q: array<Element>; // [batch][rows][Q_STRIDE]
@group(0) @binding(DELTA_BINDING) var<storage, read_write> delta: array<f32>; // [batch][HEADS][rows]
@group(0) @binding(PARAMS_BINDING) var<storage, read> params: array<u32>; // rows, keys, first, step

const SHARERS: u32 = WORKGROUP / TILE_ROWS;
const PART: u32 = (HEAD_DIM + SHARERS - 1u) / SHARERS;
const SHARE: u32 = (TILE_KEYS + SHARERS - 1u) / SHARERS;

var<workgroup> queries: array<f32, TILE_ROWS * HEAD_DIM>;
var<workgroup> d_rows: array<f32, TILE_ROWS * HEAD_DIM>;
// Values first, then keys.
var<workgroup> tile: array<f32, TILE_KEYS * HEAD_DIM>;
var<workgroup> d_scores: array<f32, TILE_ROWS * TILE_KEYS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let rows = params[0];
    let keys = params[1];
    let head = group.y;
    let batch = group.z;
    let first_row = group.x * TILE_ROWS;
    let tile_rows = min(TILE_ROWS, rows - first_row);
    let mine = lane / SHARERS;
    let part = lane % SHARERS;
    let row = first_row + min(mine, tile_rows - 1u);
    let here = position(batch, row);
    let row_at = (batch * HEADS + head) * rows + row;
    let out_at = (batch * rows + row) * OUT_STRIDE + head * HEAD_DIM;

    for (var i = lane; i < TILE_ROWS * HEAD_DIM; i += WORKGROUP) {
        let r = batch * rows + first_row + min(i / HEAD_DIM, tile_rows - 1u);
        queries[i] = f32(q[r * Q_STRIDE + head * HEAD_DIM + i % HEAD_DIM]) * SCALE;
        d_rows[i] = f32(d_out[r * OUT_STRIDE + head * HEAD_DIM + i % HEAD_DIM]);
    }
    workgroupBarrier();
    var softmax_part = 0.0;
    for (var i = 0u; i < HEAD_DIM; i++) {
        softmax_part += d_rows[mine * HEAD_DIM + i] * f32(out[out_at + i]);
    }
    let row_lse = lse[row_at];
    var sums: array<f32, PART>;
    var d_weights: array<f32, SHARE>;
    let end = min(keys, position(batch, first_row + tile_rows - 1u) + 1u);
    for (var first_key = 0u; first_key < end; first_key += TILE_KEYS) {
        let count = min(TILE_KEYS, end - first_key);
        let tile_at = (batch * keys + first_key) * KV_STRIDE + head * HEAD_DIM;
        for (var i = lane; i < count * HEAD_DIM; i += WORKGROUP) {
            tile[i] = f32(v[tile_at + i / HEAD_DIM * KV_STRIDE + i % HEAD_DIM]);
        }
        workgroupBarrier();
        for (var n = 0u; n < SHARE; n++) {
            let j = part + n * SHARERS;
            var d_weight = 0.0;
            if j < count {
                for (var i = 0u; i < HEAD_DIM; i++) {
                    d_weight += d_rows[mine * HEAD_DIM + i] * tile[j * HEAD_DIM + i];
                }
            }
            d_weights[n] = d_weight;
        }
        workgroupBarrier();
        for (var i = lane; i < count * HEAD_DIM; i += WORKGROUP) {
            tile[i] = f32(k[tile_at + i / HEAD_DIM * KV_STRIDE + i % HEAD_DIM]);
        }
        workgroupBarrier();
        for (var n = 0u; n < SHARE; n++) {
            let j = part + n * SHARERS;
            if j < TILE_KEYS {
                var d_score = 0.0;
                if j < count && first_key + j <= here && is_visible(batch, first_key + j) {
                    var score = 0.0;
                    for (var i = 0u; i < HEAD_DIM; i++) {
                        score += queries[mine * HEAD_DIM + i] * tile[j * HEAD_DIM + i];
                    }
                    d_score = exp(score - row_lse) * (d_weights[n] - softmax_part) * SCALE;
                }
                d_scores[mine * TILE_KEYS + j] = d_score;
            }
        }
        workgroupBarrier();
        for (var n = 0u; n < PART; n++) {
            let i = part + n * SHARERS;
            if i < HEAD_DIM {
                var sum = sums[n];
                for (var j = 0u; j < count; j++) {
                    sum += d_scores[mine * TILE_KEYS + j] * tile[j * HEAD_DIM + i];
                }
                sums[n] = sum;
            }
        }
        workgroupBarrier();
    }
    if mine >= tile_rows {
        return;
    }
    let q_at = (batch * rows + row) * Q_STRIDE + head * HEAD_DIM;
    for (var n = 0u; n < PART; n++) {
        let i = part + n * SHARERS;
        if i < HEAD_DIM {
            d_q[q_at + i] = Element(sums[n]);
        }
    }
    if part == 0u {
        delta[row_at] = softmax_part;
    }
}
