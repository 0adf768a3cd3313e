//! The kernels of a step of many rows, and the sizes of their launches.

use std::sync::Arc;

use super::pipeline::Pipeline;

/// A product over many rows.
pub(super) struct Product {
    pub(super) pipeline: Arc<Pipeline>,
    /// Rows of a workgroup, and workgroups along y.
    pub(super) tiles: (u32, u32),
}

impl Product {
    pub(super) fn grid(&self, rows: u32) -> [u32; 3] {
        [rows.div_ceil(self.tiles.0), self.tiles.1, 1]
    }

    fn per_row(&self) -> [u32; 3] {
        [self.tiles.0, self.tiles.1, 1]
    }
}

/// The kernels of one step of many rows.
pub(super) struct BlockPipelines {
    pub(super) projection: Option<Product>,
    pub(super) qkv: Product,
    pub(super) output: Product,
    pub(super) linear1: Product,
    pub(super) linear2: Product,
    pub(super) rotary: Arc<Pipeline>,
    pub(super) rotary_groups: u32,
    pub(super) attention: Arc<Pipeline>,
    pub(super) attention_rows: u32,
    pub(super) heads: u32,
    pub(super) norm_rows: u32,
    pub(super) move_slices: u32,
}

/// The launches of a step of many rows, as indices into [`BlockPipelines::grids`].
#[derive(Clone, Copy)]
pub(super) enum BlockOp {
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
    pub(super) fn grids(&self) -> [[u32; 3]; 9] {
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
