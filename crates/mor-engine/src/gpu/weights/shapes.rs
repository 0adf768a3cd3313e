//! Shapes of kernels that follow from a configuration alone.

use mor_config::ModelConfig;
use mor_shaders::Attention;

use crate::gpu::device::stride;

/// The attention of many rows.
pub(crate) fn attention(config: &ModelConfig, indexed: bool) -> Attention {
    let width = stride(config.hidden_size) as u32;
    Attention {
        dim: config.hidden_size as u32,
        heads: config.num_attention_heads as u32,
        q_stride: width,
        kv_stride: width,
        out_stride: width,
        indexed,
        masked: true,
        store_lse: false,
        half: false,
    }
}
