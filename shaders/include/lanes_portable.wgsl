// One invocation does a unit's work alone: no barriers, and sums over its only lane are the value itself.

const LANES: u32 = 1u;

fn unit_of(group: vec3<u32>, local: u32) -> u32 {
    return (group.x + group.y * GRID_X) * WORKGROUP + local;
}

fn lane_of(local: u32) -> u32 {
    return 0u;
}

fn reduce_sum(value: f32, lane: u32) -> f32 {
    return value;
}

fn reduce_sum4(value: vec4<f32>, lane: u32) -> vec4<f32> {
    return value;
}

fn reduce_max(value: f32, lane: u32) -> f32 {
    return value;
}

// What lanes wrote to storage is seen by the others after it.
fn sync() {}
