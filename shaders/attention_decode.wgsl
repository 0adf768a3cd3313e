// Attention of single queries to the keys in the cache, with an online softmax (Milakov and Gimelshein 2018). A unit a
// head of a row; its lanes take a key each, then share the values' columns.
//
// A key is seen if it does not come after the query and `visible` says that its position takes more than `step` steps,
// where hidden positions take none. A query that sees none gets zeros.
//
// With LEADS it also sizes the launch that has to follow a step of the layer, see route.wgsl. Constants: HEADS, HEAD_DIM, STRIDE elements between rows.

@group(0) @binding(next) var<storage, read> queries: array<f32>; // [rows][STRIDE]
@group(0) @binding(next) var<storage, read> keys: array<f32>; // [context][STRIDE]
@group(0) @binding(next) var<storage, read> values: array<f32>; // [context][STRIDE]
@group(0) @binding(next) var<storage, read> visible: array<u32>; // steps of each position, [context]
@group(0) @binding(next) var<storage, read_write> mixed: array<f32>; // [rows][STRIDE]
#if LEADS
@group(0) @binding(next) var<storage, read_write> next_route: array<u32>; // [3]
#endif
@group(0) @binding(next) var<storage, read> params: array<u32>; // [0] rows, [2] position of the first, [3] step

const HIDDEN: f32 = -3.0e38;
// Columns of a value that a lane sums.
const PART: u32 = (HEAD_DIM + LANES - 1u) / LANES;

#if !PORTABLE
var<workgroup> shares: array<f32, WORKGROUP>;
#endif

fn dot_with(query: u32, key: u32) -> f32 {
    var sum = 0.0;
#repeat HEAD_DIM
    sum += queries[query + $i] * keys[key + $i];
#end
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    let row = unit / HEADS;
    if row >= params[0] {
        return;
    }
#if LEADS
    if unit == 0u && lane == 0u {
        next_route[0] = 1u;
        next_route[1] = 1u;
        next_route[2] = 1u;
    }
#endif
    let head = unit % HEADS * HEAD_DIM;
    let count = params[2] + row + 1u;
    let step = params[3];
    let factor = inverseSqrt(f32(HEAD_DIM));
    var top = HIDDEN;
    var total = 0.0;
    var sums: array<f32, PART>;
    for (var start = 0u; start < count; start += LANES) {
        let key = start + lane;
        var score = HIDDEN;
        if key < count && visible[key] > step {
            score = dot_with(row * STRIDE + head, key * STRIDE + head);
            score *= factor;
        }
        let next = max(top, reduce_max(score, lane));
        let share = select(exp(score - next), 0.0, score <= HIDDEN);
        // Nothing seen so far leaves nothing to rescale.
        let keep = select(0.0, exp(top - next), top > HIDDEN);
        total = total * keep + reduce_sum(share, lane);
        top = next;
#if PORTABLE
#repeat HEAD_DIM
        sums[$i] = sums[$i] * keep + share * values[key * STRIDE + head + $i];
#end
#else
        shares[lane] = share;
        workgroupBarrier();
        let end = min(LANES, count - start);
        for (var part = 0u; part < PART; part++) {
            let column = part * LANES + lane;
            if column < HEAD_DIM {
                var sum = sums[part] * keep;
                for (var i = 0u; i < end; i++) {
                    sum += shares[i] * values[(start + i) * STRIDE + head + column];
                }
                sums[part] = sum;
            }
        }
        workgroupBarrier();
#endif
    }
    let scale = select(0.0, 1.0 / total, total > 0.0);
    for (var part = 0u; part < PART; part++) {
        let column = part * LANES + lane;
        if column < HEAD_DIM {
            mixed[row * STRIDE + head + column] = sums[part] * scale;
        }
    }
}
