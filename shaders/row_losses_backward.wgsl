// The backward pass of row_losses.wgsl, over the logits: softmax less one at the target, times the gradient of the row's
// loss; zeros in rows that have none.
//
// Grid: rows, slices of COLUMNS columns, and in the third dimension more rows. Every variant is this one, since
// invocations share nothing. Constants: Element f32 or f16, VOCAB logits of a row.

@group(0) @binding(next) var<storage, read> targets: array<i32>; // [rows]
@group(0) @binding(next) var<storage, read> lse: array<f32>; // [rows]
@group(0) @binding(next) var<storage, read> d_losses: array<f32>; // [rows]
@group(0) @binding(next) var<storage, read_write> logits: array<Element>; // [rows][VOCAB]; their gradients after
@group(0) @binding(next) var<storage, read> params: array<u32>; // rows, bits of the target to ignore

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.z * groups.x + group.x;
    if row >= params[0] {
        return;
    }
    let target_id = targets[row];
    let counts = is_counted(target_id, params[1]);
    let row_lse = lse[row];
    let d_loss = d_losses[row];
    let end = min(VOCAB, (group.y + 1u) * COLUMNS);
    for (var i = group.y * COLUMNS + lane; i < end; i += WORKGROUP) {
        let at = row * VOCAB + i;
        var d = 0.0;
        if counts {
            d = (exp(f32(logits[at]) - row_lse) - select(0.0, 1.0, i == u32(target_id))) * d_loss;
        }
        logits[at] = Element(d);
    }
}
