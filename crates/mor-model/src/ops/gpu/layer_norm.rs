//! Layer norm: one launch forward, three backward.

use burn::backend::TensorMetadata;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::DType;
use mor_shaders::{LayerNormTraining, chunks};

use crate::ops::backend::gpu::{empty, is_half};
use crate::ops::backend::launch::{Op, launch, launch_units, numbers};
use crate::ops::custom::SavedLayerNorm;

/// The shader for the rows of `x: [.., dim]`, and how many there are.
fn layer_norm(x: &CubeTensor, residual: bool) -> (LayerNormTraining, usize) {
    let shape = x.shape();
    let dim = shape.last().copied().unwrap_or(1);
    let op = LayerNormTraining {
        dim: dim as u32,
        residual,
        half: is_half(x),
    };
    (op, shape.num_elements() / dim.max(1))
}

pub(super) fn forward(
    x: CubeTensor,
    residual: Option<CubeTensor>,
    gain: CubeTensor,
    bias: CubeTensor,
    eps: f32,
) -> (CubeTensor, SavedLayerNorm<CubeBackend>) {
    let (op, rows) = layer_norm(&x, residual.is_some());
    let client = x.client.clone();
    let y = empty(&x, x.shape(), x.dtype);
    let sum = residual.as_ref().map(|_| empty(&x, x.shape(), x.dtype));
    let moments = empty(&x, [2, rows], DType::F32);
    let mut buffers = vec![x.handle.clone()];
    buffers.extend(residual.map(|branch| branch.handle));
    buffers.extend([gain.handle.clone(), bias.handle]);
    buffers.extend(sum.as_ref().map(|sum| sum.handle.clone()));
    buffers.extend([y.handle.clone(), moments.handle.clone()]);
    let params = [rows as u32, eps.to_bits()];
    launch_units(&client, Op::LayerNorm(op), rows, buffers, &params);
    let saved = SavedLayerNorm {
        input: sum.unwrap_or(x),
        gain,
        moments,
    };
    (y, saved)
}

/// Gradients of what was normalised, of gain and of bias.
pub(super) fn backward(saved: SavedLayerNorm<CubeBackend>, dy: CubeTensor) -> [CubeTensor; 3] {
    let SavedLayerNorm {
        input,
        gain,
        moments,
    } = saved;
    let (op, rows) = layer_norm(&input, false);
    let client = input.client.clone();
    let dx = empty(&input, input.shape(), input.dtype);
    let buffers = vec![
        input.handle.clone(),
        gain.handle.clone(),
        moments.handle.clone(),
        dy.handle.clone(),
        dx.handle.clone(),
    ];
    let params = numbers([rows]);
    launch_units(&client, Op::LayerNormBackward(op), rows, buffers, &params);

    let (of_chunk, chunks) = chunks(rows as u32);
    let dim = op.dim as usize;
    let sums = empty(&input, [chunks as usize, dim, 2], DType::F32);
    let buffers = vec![input.handle, moments.handle, dy.handle, sums.handle.clone()];
    let (chunked, params) = (Op::LayerNormBackwardChunks(op), [rows as u32, of_chunk]);
    launch(&client, chunked, op.workgroups(chunks), buffers, &params);

    let [d_gain, d_bias] = [(); 2].map(|()| empty(&gain, [dim], DType::F32));
    let buffers = vec![sums.handle, d_gain.handle.clone(), d_bias.handle.clone()];
    launch_units(
        &client,
        Op::LayerNormBackwardSum(op),
        dim,
        buffers,
        &[chunks],
    );
    [dx, d_gain, d_bias]
}
