// Eight neighbouring columns of a row of f16 weights, `[rows][8 EIGHTS]`, widened to f32. The built-in that unpacks pairs
// does not need an adapter that computes in f16, but for lavapipe: `Gpu::unpacks_f16` says whether it is there.

alias WEIGHT = vec4<u32>;

fn weights8(row: u32, eight: u32) -> mat2x4<f32> {
    let packed = weights[row * EIGHTS + eight];
    return mat2x4<f32>(
        vec4(unpack2x16float(packed.x), unpack2x16float(packed.y)),
        vec4(unpack2x16float(packed.z), unpack2x16float(packed.w)),
    );
}
