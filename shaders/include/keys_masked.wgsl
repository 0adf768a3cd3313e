// A key may be seen if its number is above the step: the depth of its position, or 1 where there is but a mask.

@group(0) @binding(VISIBLE_BINDING) var<storage, read> visible: array<u32>; // [batch][keys]

fn is_visible(batch: u32, key: u32) -> bool {
    return visible[batch * params[1] + key] > params[3];
}
