// Attention backward to keys and values, an invocation a key and head. Constants, bindings and grid as in
// attention_backward_kv.wgsl.

@group(0) @binding(0) var<storage, read> q: array<Element>; // [batch][rows][Q_STRIDE]
@group(0) @binding(1) var<storage, read> k: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(2) var<storage, read> v: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(D_OUT_BINDING) var<storage, read> d_out: array<Element>; // [batch][rows][OUT_STRIDE]
@group(0) @binding(LSE_BINDING) var<storage, read> lse: array<f32>; // [batch][HEADS][rows]
@group(0) @binding(DELTA_BINDING) var<storage, read> delta: array<f32>; // [batch][HEADS][rows]
@group(0) @binding(D_K_BINDING) var<storage, read_write> d_k: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(D_V_BINDING) var<storage, read_write> d_v: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(PARAMS_BINDING) var<storage, read> params: array<u32>; // rows, keys, first, step

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let rows = params[0];
    let keys = params[1];
    let key = group.x * WORKGROUP + lane;
    let head = group.y;
    let batch = group.z;
    if key >= keys {
        return;
    }
    let at = (batch * keys + key) * KV_STRIDE + head * HEAD_DIM;
    var key_row: array<f32, HEAD_DIM>;
    var value_row: array<f32, HEAD_DIM>;
    var k_sums: array<f32, HEAD_DIM>;
    var v_sums: array<f32, HEAD_DIM>;
#repeat HEAD_DIM
    key_row[$i] = f32(k[at + $i]) * SCALE;
    value_row[$i] = f32(v[at + $i]);
    k_sums[$i] = 0.0;
    v_sums[$i] = 0.0;
#end
    if is_visible(batch, key) {
        for (var row = 0u; row < rows; row++) {
            if position(batch, row) < key {
                continue;
            }
            let q_at = (batch * rows + row) * Q_STRIDE + head * HEAD_DIM;
            let out_at = (batch * rows + row) * OUT_STRIDE + head * HEAD_DIM;
            let row_at = (batch * HEADS + head) * rows + row;
            var score = 0.0;
            var d_weight = 0.0;
#repeat HEAD_DIM
            score += key_row[$i] * f32(q[q_at + $i]);
            d_weight += value_row[$i] * f32(d_out[out_at + $i]);
#end
            let weight = exp(score - lse[row_at]);
            let d_score = weight * (d_weight - delta[row_at]) * SCALE;
#repeat HEAD_DIM
            k_sums[$i] += d_score * f32(q[q_at + $i]);
            v_sums[$i] += weight * f32(d_out[out_at + $i]);
#end
        }
    }
#repeat HEAD_DIM
    d_k[at + $i] = Element(k_sums[$i]);
    d_v[at + $i] = Element(v_sums[$i]);
#end
}
