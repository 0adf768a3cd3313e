//! Attention over the shaders `attention`, `attention_backward_q` and `attention_backward_kv`.

use burn::backend::TensorMetadata;
use burn::backend::ops::BoolTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::{BoolStore, DType, IntDType};
use mor_shaders::Attention;

use super::autodiff::{AttentionKernels, Saved};
use crate::ops::backend::gpu::{empty, is_half};
use crate::ops::backend::launch::{Op, launch, variant};

/// The shader for `q: [batch, seq, dim]`, and its sizes.
fn shader(q: &CubeTensor, heads: usize, masked: bool) -> (Attention, [usize; 3]) {
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

impl AttentionKernels for CubeBackend {
    fn attention_forward(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        key_mask: Option<CubeTensor>,
        heads: usize,
    ) -> (CubeTensor, CubeTensor) {
        let visible = visible(key_mask);
        let (op, [batch, seq, dim]) = shader(&q, heads, visible.is_some());
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

    fn attention_backward(saved: Saved<Self>, d_out: CubeTensor) -> [CubeTensor; 3] {
        let Saved {
            q,
            k,
            v,
            key_mask,
            heads,
            out,
            logsumexp,
        } = saved;
        let visible = visible(key_mask);
        let (op, [batch, seq, dim]) = shader(&q, heads, visible.is_some());
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
}
