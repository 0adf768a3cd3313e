// What a router's decision leaves behind.
//
// `routing` is [0] whether the layer before took a step, so that its row still owes a norm, [1 + layer] the steps of the
// last position, and from HEADER on for each layer the steps of every position, [CONTEXT], and how many of them it can
// be seen in as a key, [CONTEXT]. `arguments` are those of the indirect dispatches that decode a token:
// [layer][MAX_STEPS][OPERATIONS][3], nothing where a step is not taken.

#if ARGUMENTS
fn leave_arguments(layer: u32, depth: u32) {
    var grids = GRIDS;
    var at = layer * MAX_STEPS * OPERATIONS * 3u;
    for (var step = 0u; step < MAX_STEPS; step++) {
        for (var i = 0u; i < OPERATIONS * 3u; i++) {
            arguments[at] = select(0u, grids[i], step < depth);
            at++;
        }
    }
}
#endif

fn leave_depth(layer: u32, position: u32, depth: u32, is_visible: bool) {
    let at = HEADER + layer * 2u * CONTEXT + position;
    routing[at] = depth;
    routing[at + CONTEXT] = select(0u, depth, is_visible);
}
