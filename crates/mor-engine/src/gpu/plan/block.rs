//! The kernels of a step of many rows, and the sizes of their launches.

use std::sync::Arc;

use crate::gpu::device::Pipeline;

/// A product over many rows.
pub(crate) struct Product {
    pub(crate) pipeline: Arc<Pipeline>,
    /// Rows of a workgroup, and workgroups along y.
    pub(crate) tiles: (u32, u32),
}

impl Product {
    pub(crate) fn grid(&self, rows: u32) -> [u32; 3] {
        [rows.div_ceil(self.tiles.0), self.tiles.1, 1]
    }

    fn per_row(&self) -> [u32; 3] {
        [self.tiles.0, self.tiles.1, 1]
    }
}

/// The kernels of one step of many rows.
pub(crate) struct BlockPipelines {
    pub(crate) projection: Option<Product>,
    pub(crate) qkv: Product,
    pub(crate) output: Product,
    pub(crate) linear1: Product,
    pub(crate) linear2: Product,
    pub(crate) rotary: Arc<Pipeline>,
    pub(crate) rotary_groups: u32,
    pub(crate) attention: Arc<Pipeline>,
    pub(crate) attention_rows: u32,
    pub(crate) heads: u32,
    pub(crate) norm_rows: u32,
    pub(crate) move_slices: u32,
}

/// The launches of a step of many rows, as indices into [`BlockPipelines::grids`].
#[derive(Clone, Copy)]
pub(crate) enum BlockOp {
    Projection,
    Qkv,
    Rotary,
    Attention,
    Output,
    Linear1,
    Linear2,
    Norm,
    /// Gather and scatter.
    Move,
}

impl BlockPipelines {
    /// For each [`BlockOp`]: rows of a workgroup, and workgroups along y and z.
    pub(crate) fn grids(&self) -> [[u32; 3]; 9] {
        let projection = self.projection.as_ref().map_or([1, 1, 1], Product::per_row);
        [
            projection,
            self.qkv.per_row(),
            [1, self.rotary_groups, 1],
            [self.attention_rows, self.heads, 1],
            self.output.per_row(),
            self.linear1.per_row(),
            self.linear2.per_row(),
            [self.norm_rows, 1, 1],
            [1, self.move_slices, 1],
        ]
    }
}
