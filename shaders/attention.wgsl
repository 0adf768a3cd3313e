// Causal attention forward with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022), a workgroup a tile of
// query rows of a head. Grid: tiles of rows, heads, batch.
//
// A row belongs to SHARERS neighbouring invocations. Of a tile of keys each takes every SHARERS-th score; of the row's
// output, every SHARERS-th number. Loops whose bounds are constants are written out, for fewer of the 65,535 rounds that
// some drivers allow an invocation in all: Attention::most_keys counts those that are left.
//
// Constants: Element f32 or f16; HEADS, HEAD_DIM; Q_STRIDE, KV_STRIDE, OUT_STRIDE elements between rows; SCALE of the
// scores; TILE_ROWS and TILE_KEYS of a tile; HIDDEN the score of a key that is not seen; the numbers of the bindings
// that follow optional ones.

@group(0) @binding(0) var<storage, read> q: array<Element>; // [batch][rows][Q_STRIDE]
@group(0) @binding(1) var<storage, read> k: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(2) var<storage, read> v: array<Element>; // [batch][keys][KV_STRIDE]
@group(0) @binding(OUT_BINDING) var<storage, read_write> out: array<Element>; // [batch][rows][OUT_STRIDE]
@group(0) @binding(PARAMS_BINDING) var<storage, read> params: array<u32>; // rows, keys, first, step

const SHARERS: u32 = WORKGROUP / TILE_ROWS;
const PART: u32 = (HEAD_DIM + SHARERS - 1u) / SHARERS;

var<workgroup> queries: array<f32, TILE_ROWS * HEAD_DIM>;
// Keys first, then values.
var<workgroup> tile: array<f32, TILE_KEYS * HEAD_DIM>;
// Scores first, then weights.
var<workgroup> scores: array<f32, TILE_ROWS * TILE_KEYS>;

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

    for (var i = lane; i < TILE_ROWS * HEAD_DIM; i += WORKGROUP) {
        let r = first_row + min(i / HEAD_DIM, tile_rows - 1u);
        queries[i] = f32(q[(batch * rows + r) * Q_STRIDE + head * HEAD_DIM + i % HEAD_DIM]) * SCALE;
    }
    var sums: array<f32, PART>;
    var top = HIDDEN;
    var total = 0.0;
    // Positions do not fall, so the last row sees the most.
    let end = min(keys, position(batch, first_row + tile_rows - 1u) + 1u);
    for (var first_key = 0u; first_key < end; first_key += TILE_KEYS) {
        let count = min(TILE_KEYS, end - first_key);
        let tile_at = (batch * keys + first_key) * KV_STRIDE + head * HEAD_DIM;
        for (var i = lane; i < TILE_KEYS * HEAD_DIM; i += WORKGROUP) {
            tile[i] = f32(k[tile_at + min(i / HEAD_DIM, count - 1u) * KV_STRIDE + i % HEAD_DIM]);
        }
        workgroupBarrier();
        for (var j = part; j < TILE_KEYS; j += SHARERS) {
            var score = HIDDEN;
            if j < count && first_key + j <= here && is_visible(batch, first_key + j) {
                score = 0.0;
#repeat HEAD_DIM
                score += queries[mine * HEAD_DIM + $i] * tile[j * HEAD_DIM + $i];
#end
            }
            scores[mine * TILE_KEYS + j] = score;
        }
        workgroupBarrier();
        var higher = top;
#repeat TILE_KEYS
        higher = max(higher, scores[mine * TILE_KEYS + $i]);
#end
        // The last key stands for those beyond it, too. They weigh nothing, but what was there before may be no number.
        for (var i = lane; i < TILE_KEYS * HEAD_DIM; i += WORKGROUP) {
            tile[i] = f32(v[tile_at + min(i / HEAD_DIM, count - 1u) * KV_STRIDE + i % HEAD_DIM]);
        }
        workgroupBarrier();
        for (var j = part; j < TILE_KEYS; j += SHARERS) {
            let score = scores[mine * TILE_KEYS + j];
            scores[mine * TILE_KEYS + j] = select(exp(score - higher), 0.0, score <= HIDDEN);
        }
        workgroupBarrier();
        let shrink = exp(top - higher);
        top = higher;
        total *= shrink;
#repeat TILE_KEYS
        total += scores[mine * TILE_KEYS + $i];
#end
        for (var n = 0u; n < PART; n++) {
            let i = part + n * SHARERS;
            if i < HEAD_DIM {
                var sum = sums[n] * shrink;
#repeat TILE_KEYS
                sum += scores[mine * TILE_KEYS + $i] * tile[$i * HEAD_DIM + i];
#end
                sums[n] = sum;
            }
        }
        workgroupBarrier();
    }
    if mine >= tile_rows {
        return;
    }
    // A row that sees no key gets zeros.
    let inverse = select(0.0, 1.0 / total, total > 0.0);
    let out_at = (batch * rows + row) * OUT_STRIDE + head * HEAD_DIM;
    for (var n = 0u; n < PART; n++) {
        let i = part + n * SHARERS;
        if i < HEAD_DIM {
            out[out_at + i] = Element(sums[n] * inverse);
        }
    }
    if part == 0u {
        store_lse(batch, head, row, select(HIDDEN, top + log(total), total > 0.0));
    }
}
