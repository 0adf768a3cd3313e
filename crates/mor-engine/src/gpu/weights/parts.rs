//! The parts of a model on a GPU.

use std::ops::Range;

use mor_shaders::{Dense, Storage};

use crate::gpu::device::Slice;

/// A matrix `[rows, columns]`, row by row.
#[derive(Clone, Debug)]
pub(crate) struct GpuMatrix {
    pub(crate) slice: Slice,
    pub(crate) rows: u32,
    /// Padded.
    pub(crate) columns: u32,
    pub(crate) storage: Storage,
}

impl GpuMatrix {
    /// Bytes that a product with it reads.
    pub(crate) fn bytes(&self) -> u64 {
        self.storage
            .bytes(self.rows as usize, self.columns as usize)
    }
}

/// A linear layer.
pub(crate) struct GpuLinear {
    pub(crate) matrix: GpuMatrix,
    pub(crate) bias: Option<Slice>,
}

/// As [`crate::model::Block`]; norms are gain, then bias, each padded.
pub(crate) struct GpuBlock {
    pub(crate) qkv: GpuLinear,
    pub(crate) output: GpuLinear,
    pub(crate) norm1: Slice,
    pub(crate) linear1: GpuLinear,
    pub(crate) linear2: GpuLinear,
    pub(crate) norm2: Slice,
}

impl GpuBlock {
    pub(super) fn bytes(&self) -> u64 {
        let all = [&self.qkv, &self.output, &self.linear1, &self.linear2];
        all.iter().map(|linear| linear.matrix.bytes()).sum()
    }
}

/// A router's layers, for many rows at once.
pub(crate) struct GpuRouter {
    pub(crate) pooler: Option<GpuLinear>,
    pub(crate) hidden: GpuLinear,
    pub(crate) classes: GpuLinear,
}

impl GpuRouter {
    pub(super) fn bytes(&self) -> u64 {
        let all = self.pooler.iter().chain([&self.hidden, &self.classes]);
        all.map(|linear| linear.matrix.bytes()).sum()
    }
}

/// Where the parts of a router are that `shaders/route.wgsl` reads. All routers of a model have the same shapes.
#[derive(Clone, Copy)]
pub(crate) struct RouterLayout {
    /// Elements of a router.
    pub(crate) stride: u32,
    /// The norm that the layer before leaves to be done.
    pub(crate) norm: Option<u32>,
    pub(crate) pooler: Option<Dense>,
    pub(crate) hidden: Dense,
    pub(crate) classes: Dense,
}

/// The routers as `shaders/route.wgsl` reads them, one after the other.
pub(crate) struct RouteWeights {
    pub(crate) slice: Slice,
    /// The layers that have one: all, or the shared block.
    pub(crate) layers: Range<usize>,
    pub(crate) layout: RouterLayout,
}

/// A layer.
pub(crate) struct GpuLayer {
    pub(crate) block: GpuBlock,
    pub(crate) recurs: bool,
    pub(crate) router: Option<GpuRouter>,
    pub(crate) projections: Vec<GpuLinear>,
}

/// Where positions enter.
pub(crate) enum GpuPositions {
    /// `[context][stride]`, added to embeddings.
    Added(Slice),
    /// Cosine and sine, `[context][head_dim / 2]`.
    Rotary(Slice),
}
