//! Attention, layer norm, rotary positions and routing on the CPU.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;

use super::{attention, layer_norm, rotary, rows};
use crate::ops::custom::{CustomBackend, Rotation, SavedAttention, SavedLayerNorm};

impl CustomBackend for Flex {
    fn attention_forward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        key_mask: Option<FlexTensor>,
        heads: usize,
    ) -> (FlexTensor, FlexTensor) {
        attention::forward(q, k, v, key_mask, heads)
    }

    fn attention_backward(saved: SavedAttention<Self>, d_out: FlexTensor) -> [FlexTensor; 3] {
        attention::backward(saved, d_out)
    }

    fn layer_norm_forward(
        x: FlexTensor,
        residual: Option<FlexTensor>,
        gain: FlexTensor,
        bias: FlexTensor,
        eps: f32,
    ) -> (FlexTensor, SavedLayerNorm<Self>) {
        layer_norm::forward(x, residual, gain, &bias, eps)
    }

    fn layer_norm_backward(saved: SavedLayerNorm<Self>, dy: FlexTensor) -> [FlexTensor; 3] {
        layer_norm::backward(&saved, &dy)
    }

    fn rotate(x: FlexTensor, rotation: &Rotation) -> FlexTensor {
        rotary::rotate(x, rotation)
    }

    fn select(depths: FlexTensor, step: u32) -> (FlexTensor, FlexTensor) {
        rows::select(depths, step)
    }

    fn gather(x: FlexTensor, list: FlexTensor, count: usize) -> FlexTensor {
        rows::gather(&x, &list, count)
    }

    fn scatter(x: FlexTensor, rows: FlexTensor, list: FlexTensor) -> FlexTensor {
        rows::scatter(&x, &rows, &list)
    }

    fn clear(x: FlexTensor, list: FlexTensor, count: usize) -> FlexTensor {
        rows::clear(&x, &list, count)
    }

    fn spread(rows: FlexTensor, list: FlexTensor, total: usize) -> FlexTensor {
        rows::spread(&rows, &list, total)
    }
}
