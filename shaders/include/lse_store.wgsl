// Keeps the logarithm of each row's summed exponentials for the backward pass.

@group(0) @binding(LSE_BINDING) var<storage, read_write> lse: array<f32>; // [batch][HEADS][rows]

fn store_lse(batch: u32, head: u32, row: u32, value: f32) {
    lse[(batch * HEADS + head) * params[0] + row] = value;
}
