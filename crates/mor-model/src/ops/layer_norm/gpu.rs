//! Layer norm over the shader `layer_norm_training` forward and three backward, `layer_norm_backward` and those of its
//! chunks and their sum.

use burn::backend::TensorMetadata;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::DType;
use mor_shaders::{LayerNormTraining, chunks};

use super::autodiff::{LayerNormKernels, Saved};
use crate::ops::backend::gpu::{empty, is_half};
use crate::ops::backend::launch::{Op, launch, launch_units, numbers};

/// The shader for the rows of `x: [.., dim]`, and how many there are.
fn shader(x: &CubeTensor, residual: bool) -> (LayerNormTraining, usize) {
    let shape = x.shape();
    let dim = shape.last().copied().unwrap_or(1);
    let op = LayerNormTraining {
        dim: dim as u32,
        residual,
        half: is_half(x),
    };
    (op, shape.num_elements() / dim.max(1))
}

impl LayerNormKernels for CubeBackend {
    fn layer_norm_forward(
        x: CubeTensor,
        residual: Option<CubeTensor>,
        gain: CubeTensor,
        bias: CubeTensor,
        eps: f32,
    ) -> (CubeTensor, Saved<Self>) {
        let (op, rows) = shader(&x, residual.is_some());
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
        let saved = Saved {
            input: sum.unwrap_or(x),
            gain,
            moments,
        };
        (y, saved)
    }

    fn layer_norm_backward(saved: Saved<Self>, dy: CubeTensor) -> [CubeTensor; 3] {
        let Saved {
            input,
            gain,
            moments,
        } = saved;
        let (op, rows) = shader(&input, false);
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
}
