//! Attention and routing on the CPU.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;

use super::{attention, buffers, rows};
use crate::ops::custom::{Kernels, SavedAttention};

impl Kernels for Flex {
    fn contiguous(x: FlexTensor) -> FlexTensor {
        buffers::contiguous(x)
    }

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
