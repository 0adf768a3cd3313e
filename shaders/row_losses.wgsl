// Cross-entropy of rows of logits with an online softmax (Milakov and Gimelshein 2018), a unit a row: one pass over it
// finds the highest logit and the sum of exponentials. Rows whose target is ignored, or beyond the vocabulary, are not
// read and have no loss. Its backward pass is row_losses_backward.wgsl.
//
// Constants: Element f32 or f16, VOCAB logits of a row, LOWEST below every logit.

@group(0) @binding(next) var<storage, read> logits: array<Element>; // [rows][VOCAB]
@group(0) @binding(next) var<storage, read> targets: array<i32>; // [rows]
@group(0) @binding(next) var<storage, read_write> losses: array<f32>; // [rows]
@group(0) @binding(next) var<storage, read_write> lse: array<f32>; // [rows] logarithms of the sums
@group(0) @binding(next) var<storage, read> params: array<u32>; // rows, bits of the target to ignore

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    if unit >= params[0] {
        return;
    }
    let row = unit * VOCAB;
    let target_id = targets[unit];
    let counts = is_counted(target_id, params[1]);
    var top = LOWEST;
    var total = 0.0;
    // Four at a time, for fewer exponentials and fewer rounds.
    let end = select(0u, VOCAB, counts);
    for (var first = lane; first < end; first += 4u * LANES) {
        let column = first + vec4(0u, LANES, 2u * LANES, 3u * LANES);
        let at = row + min(column, vec4(VOCAB - 1u));
        let read = vec4(f32(logits[at.x]), f32(logits[at.y]), f32(logits[at.z]), f32(logits[at.w]));
        let four = select(vec4(LOWEST), read, column < vec4(VOCAB));
        let higher = max(max(max(four.x, four.y), max(four.z, four.w)), top);
        total = total * exp(top - higher) + dot(exp(four - higher), vec4(1.0));
        top = higher;
    }
    let highest = reduce_max(top, lane);
    let log_sum = log(reduce_sum(total * exp(top - highest), lane));
    if lane == 0u {
        var loss = 0.0;
        var row_lse = 0.0;
        if counts {
            // Large numbers first, as they may cancel.
            loss = highest - f32(logits[row + u32(target_id)]) + log_sum;
            row_lse = highest + log_sum;
        }
        losses[unit] = loss;
        lse[unit] = row_lse;
    }
}
