// Causal attention forward, an invocation a query row and head. Constants, bindings and grid as in attention.wgsl.

@group(0) @binding(0) var<storage, read> q: array<Element>; // [batch][rows][Q_STRIDE]
@group(0) @binding(1) var<storage, read> k: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(2) var<storage, read> v: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(OUT_BINDING) var<storage, read_write> out: array<Element>; // [batch][rows][OUT_STRIDE]
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
    var query: array<f32, HEAD_DIM>;
    var sums: array<f32, HEAD_DIM>;
#repeat HEAD_DIM
    query[$i] = f32(q[q_at + $i]) * SCALE;
    sums[$i] = 0.0;
#end
    var top = HIDDEN;
    var total = 0.0;
    for (var key = 0u; key < min(keys, here + 1u); key++) {
        if !is_visible(batch, key) {
            continue;
        }
        let at = (batch * keys + key) * KV_STRIDE + head * HEAD_DIM;
        var score = 0.0;
#repeat HEAD_DIM
        score += query[$i] * f32(k[at + $i]);
#end
        if score > top {
            let shrink = exp(top - score);
            total *= shrink;
#repeat HEAD_DIM
            sums[$i] *= shrink;
#end
            top = score;
        }
        let weight = exp(score - top);
        total += weight;
#repeat HEAD_DIM
        sums[$i] += weight * f32(v[at + $i]);
#end
    }
    // A row that sees no key gets zeros.
    let inverse = select(0.0, 1.0 / total, total > 0.0);
    let out_at = (batch * rows + row) * OUT_STRIDE + head * HEAD_DIM;
#repeat HEAD_DIM
    out[out_at + $i] = Element(sums[$i] * inverse);
#end
    store_lse(batch, head, row, select(HIDDEN, top + log(total), total > 0.0));
}
