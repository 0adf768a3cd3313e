// Eight neighbouring columns of a row of f32 weights, `[rows][8 EIGHTS]`.

alias WEIGHT = vec4<f32>;

fn weights8(row: u32, eight: u32) -> mat2x4<f32> {
    let at = (row * EIGHTS + eight) * 2u;
    return mat2x4<f32>(weights[at], weights[at + 1u]);
}
