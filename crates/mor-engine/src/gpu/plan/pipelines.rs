//! The compute pipelines of a decoder, with the sizes of their launches.

use std::sync::Arc;

use mor_shaders::Decision;

use super::block::Product;
use crate::gpu::device::Pipeline;

/// A compiled kernel of a decoded token, and its size.
pub(crate) struct SizedPipeline {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) grid: [u32; 3],
}

/// The kernels of one step of a decoded token. Which norm a row is read through differs between the first step and the
/// others, and so do kernels that read such rows.
pub(crate) struct StepPipelines {
    /// The technical model's.
    pub(crate) projection: Option<SizedPipeline>,
    pub(crate) qkv: SizedPipeline,
    pub(crate) attention: SizedPipeline,
    pub(crate) output: SizedPipeline,
    pub(crate) linear1: SizedPipeline,
    pub(crate) linear2: SizedPipeline,
}

impl StepPipelines {
    /// In the order of their launches.
    pub(crate) fn grids(&self) -> Vec<[u32; 3]> {
        let Self {
            projection,
            qkv,
            attention,
            output,
            linear1,
            linear2,
        } = self;
        let rest = [qkv, attention, output, linear1, linear2];
        let all = projection.iter().chain(rest);
        all.map(|kernel| kernel.grid).collect()
    }
}

/// Kernels of one kind of weights, for both ways of running a block.
pub(crate) struct Pipelines {
    pub(crate) embed: Arc<Pipeline>,
    pub(crate) layer_norm: Arc<Pipeline>,
    pub(crate) head: SizedPipeline,
    pub(crate) sample: Arc<Pipeline>,
    pub(crate) selection: Option<SelectionPipelines>,
}

/// What brings the rows that take a step together, and back.
pub(crate) struct SelectionPipelines {
    pub(crate) select: Arc<Pipeline>,
    pub(crate) gather: Arc<Pipeline>,
    pub(crate) scatter: Arc<Pipeline>,
}

/// Kernels of a router.
pub(crate) struct RouterPipelines {
    pub(crate) route: SizedPipeline,
    pub(crate) follow: SizedPipeline,
    pub(crate) pool: Arc<Pipeline>,
    pub(crate) pooler: Option<Product>,
    pub(crate) hidden: Product,
    pub(crate) classes: Product,
    pub(crate) decide: Arc<Pipeline>,
    pub(crate) decision: Decision,
}
