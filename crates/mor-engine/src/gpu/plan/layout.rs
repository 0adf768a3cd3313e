//! Where kernels find what a router decided.

use crate::gpu::device::stride;

/// Words of `routing` before the depths of layers.
pub(crate) fn header(layers: usize) -> usize {
    stride(layers + 1)
}

/// How many layers size the launch after them, of `routers` that have a router. The last one does too, for nobody.
pub(crate) fn routes(routers: usize) -> Option<u32> {
    (routers > 1).then_some(routers as u32)
}
