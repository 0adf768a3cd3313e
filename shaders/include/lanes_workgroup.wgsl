// A workgroup shares a unit's work: its invocations are the lanes.

const LANES: u32 = WORKGROUP;

fn unit_of(group: vec3<u32>, local: u32) -> u32 {
    return group.x + group.y * GRID_X;
}

fn lane_of(local: u32) -> u32 {
    return local;
}

fn sync() {
    storageBarrier();
    workgroupBarrier();
}
