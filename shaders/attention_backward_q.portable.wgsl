// Attention backward to the queries, an invocation a query row and head. Constants, bindings and grid as in
// attention_backward_q.wgsl.

@group(0) @binding(0) var<storage, read> q: array<Element>; // [batch][rows][Q_STRIDE]
@group(0) @binding(1) var<storage, read> k: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(2) var<storage, read> v: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(OUT_BINDING) var<storage, read> out: array<Element>; // [batch][rows][OUT_STRIDE]
@group(0) @binding(D_OUT_BINDING) var<storage, read> d_out: array<Element>; // [batch][rows][OUT_STRIDE]
@group(0) @binding(LSE_BINDING) var<storage, read> lse: array<f32>; // [batch][HEADS][rows]
@group(0) @binding(D_Q_BINDING) var<storage, read_write> d_q: array<Element>; // [batch][rows][Q_STRIDE]
@group(0) @binding(DELTA_BINDING) var<storage, read_write> delta: array<f32>; // [batch][HEADS][rows]
@group(0) @binding(PARAMS_BINDING) var<storage, read> params: array<u32>; // rows, keys, first, step

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let rows = params[0];
    let keys = params[1];
    let row = group.x * WORKGROUP + lane;
    let head = group.y;
    let batch = group.z;
    if row >= rows {
        return;
    }
    let here = position(batch, row);
    let q_at = (batch * rows + row) * Q_STRIDE + head * HEAD_DIM;
    let out_at = (batch * rows + row) * OUT_STRIDE + head * HEAD_DIM;
    let row_at = (batch * HEADS + head) * rows + row;
    var query: array<f32, HEAD_DIM>;
    var d_row: array<f32, HEAD_DIM>;
    var sums: array<f32, HEAD_DIM>;
    var softmax_part = 0.0;
#repeat HEAD_DIM
    query[$i] = f32(q[q_at + $i]) * SCALE;
    d_row[$i] = f32(d_out[out_at + $i]);
    softmax_part += d_row[$i] * f32(out[out_at + $i]);
    sums[$i] = 0.0;
#end
    let row_lse = lse[row_at];
    for (var key = 0u; key < min(keys, here + 1u); key++) {
        if !is_visible(batch, key) {
            continue;
        }
        let at = (batch * keys + key) * KV_STRIDE + head * HEAD_DIM;
        var score = 0.0;
        var d_weight = 0.0;
#repeat HEAD_DIM
        score += query[$i] * f32(k[at + $i]);
        d_weight += d_row[$i] * f32(v[at + $i]);
#end
        let d_score = exp(score - row_lse) * (d_weight - softmax_part) * SCALE;
#repeat HEAD_DIM
        sums[$i] += d_score * f32(k[at + $i]);
#end
    }
#repeat HEAD_DIM
    d_q[q_at + $i] = Element(sums[$i]);
#end
    delta[row_at] = softmax_part;
}
