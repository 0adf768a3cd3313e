//! What a GPU computes, given Burn's tensors: attention and routing here, the rest in modules of its own.

use burn::backend::TensorMetadata;
use burn::backend::ops::{BoolTensorOps, FloatTensorOps};
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::{BoolStore, DType, IntDType};
use mor_shaders::{Attention, Gather, Scatter};

use super::{layer_norm, rotary};
use crate::ops::backend::gpu::{empty, is_half, words, writable};
use crate::ops::backend::launch::{Op, launch, numbers, variant};
use crate::ops::custom::{CustomBackend, Rotation, SavedAttention, SavedLayerNorm};

/// Elements of a row.
fn stride(x: &CubeTensor) -> u32 {
    x.shape().iter().skip(1).product::<usize>() as u32
}

/// The shader for `q: [batch, seq, dim]`, and its sizes.
fn attention(q: &CubeTensor, heads: usize, masked: bool) -> (Attention, [usize; 3]) {
    let [batch, seq, dim] = q.shape().dims::<3>();
    let width = dim as u32;
    let op = Attention {
        dim: width,
        heads: heads as u32,
        q_stride: width,
        kv_stride: width,
        out_stride: width,
        indexed: false,
        masked,
        store_lse: true,
        half: is_half(q),
    };
    (op, [batch, seq, dim])
}

/// What the attention shaders read of `seq` rows that attend to as many keys.
fn attended(seq: usize) -> [u32; 4] {
    [seq as u32, seq as u32, 0, 0]
}

/// The buffer of a mask: not zero where a key may be seen.
fn visible(key_mask: Option<CubeTensor>) -> Option<CubeTensor> {
    key_mask.map(|mask| match mask.dtype {
        // As the shaders have it.
        DType::Bool(BoolStore::U32) => into_contiguous(mask),
        _ => into_contiguous(CubeBackend::bool_into_int(mask, IntDType::I32)),
    })
}

impl CustomBackend for CubeBackend {
    fn attention_forward(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        key_mask: Option<CubeTensor>,
        heads: usize,
    ) -> (CubeTensor, CubeTensor) {
        let visible = visible(key_mask);
        let (op, [batch, seq, dim]) = attention(&q, heads, visible.is_some());
        let out = empty(&q, [batch, seq, dim], q.dtype);
        let lse = empty(&q, [batch, heads, seq], DType::F32);
        let client = q.client.clone();
        let mut buffers = vec![q.handle, k.handle, v.handle];
        buffers.extend(visible.map(|mask| mask.handle));
        buffers.push(out.handle.clone());
        buffers.push(lse.handle.clone());
        let grid = op.workgroups(variant(), seq as u32, batch as u32);
        launch(&client, Op::Attention(op), grid, buffers, &attended(seq));
        (out, lse)
    }

    fn attention_backward(saved: SavedAttention<Self>, d_out: CubeTensor) -> [CubeTensor; 3] {
        let SavedAttention {
            q,
            k,
            v,
            key_mask,
            heads,
            out,
            logsumexp,
        } = saved;
        let visible = visible(key_mask);
        let (op, [batch, seq, dim]) = attention(&q, heads, visible.is_some());
        let [dq, dk, dv] = [(); 3].map(|()| empty(&q, [batch, seq, dim], q.dtype));
        let delta = empty(&q, [batch, heads, seq], DType::F32);
        let client = q.client.clone();
        let mut shared = vec![q.handle, k.handle, v.handle];
        shared.extend(visible.map(|mask| mask.handle));
        let grid = op.workgroups(variant(), seq as u32, batch as u32);

        let mut buffers = shared.clone();
        buffers.extend([
            out.handle,
            d_out.handle.clone(),
            logsumexp.handle.clone(),
            dq.handle.clone(),
            delta.handle.clone(),
        ]);
        let params = attended(seq);
        launch(&client, Op::AttentionBackwardQ(op), grid, buffers, &params);

        let mut buffers = shared;
        buffers.extend([
            d_out.handle,
            logsumexp.handle,
            delta.handle,
            dk.handle.clone(),
            dv.handle.clone(),
        ]);
        // As many keys as rows.
        launch(&client, Op::AttentionBackwardKv(op), grid, buffers, &params);
        [dq, dk, dv]
    }

    fn layer_norm_forward(
        x: CubeTensor,
        residual: Option<CubeTensor>,
        gain: CubeTensor,
        bias: CubeTensor,
        eps: f32,
    ) -> (CubeTensor, SavedLayerNorm<Self>) {
        layer_norm::forward(x, residual, gain, bias, eps)
    }

    fn layer_norm_backward(saved: SavedLayerNorm<Self>, dy: CubeTensor) -> [CubeTensor; 3] {
        layer_norm::backward(saved, dy)
    }

    fn rotate(x: CubeTensor, rotation: &Rotation) -> CubeTensor {
        rotary::rotate(x, rotation)
    }

    fn select(depths: CubeTensor, step: u32) -> (CubeTensor, CubeTensor) {
        let depths = words(depths);
        let rows = depths.shape().num_elements();
        let list = empty(&depths, [rows], DType::I32);
        let count = empty(&depths, [1], DType::I32);
        let client = depths.client.clone();
        let buffers = vec![depths.handle, list.handle.clone(), count.handle.clone()];
        let params = [rows as u32, 0, step];
        launch(&client, Op::Select, [1, 1, 1], buffers, &params);
        (list, count)
    }

    fn gather(x: CubeTensor, list: CubeTensor, count: usize) -> CubeTensor {
        let mut shape = x.shape();
        shape[0] = count;
        let op = Gather {
            stride: stride(&x),
            half: is_half(&x),
        };
        let rows = empty(&x, shape, x.dtype);
        let client = x.client.clone();
        let buffers = vec![x.handle, words(list).handle, rows.handle.clone()];
        let grid = op.workgroups(count as u32);
        launch(&client, Op::Gather(op), grid, buffers, &numbers([count]));
        rows
    }

    fn scatter(x: CubeTensor, rows: CubeTensor, list: CubeTensor) -> CubeTensor {
        let x = writable(x);
        let count = rows.shape()[0];
        let op = Scatter {
            stride: stride(&x),
            half: is_half(&x),
        };
        let client = x.client.clone();
        let buffers = vec![rows.handle, words(list).handle, x.handle.clone()];
        let grid = op.workgroups(count as u32);
        launch(&client, Op::Scatter(op), grid, buffers, &numbers([count]));
        x
    }

    fn clear(x: CubeTensor, list: CubeTensor, count: usize) -> CubeTensor {
        let x = writable(x);
        let op = Scatter {
            stride: stride(&x),
            half: is_half(&x),
        };
        let client = x.client.clone();
        let buffers = vec![words(list).handle, x.handle.clone()];
        let grid = op.workgroups(count as u32);
        launch(&client, Op::Clear(op), grid, buffers, &numbers([count]));
        x
    }

    fn spread(rows: CubeTensor, list: CubeTensor, total: usize) -> CubeTensor {
        let mut shape = rows.shape();
        shape[0] = total;
        let zeros = Self::float_zeros(shape, &rows.device, rows.dtype.into());
        Self::scatter(zeros, rows, list)
    }
}
