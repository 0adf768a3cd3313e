//! What an optimizer does to a parameter, over the shaders `adamw`, `momentum`, `scaled_sum` and `sum_squares`.

use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::backend::{Backend, TensorMetadata, backend_extension};
use mor_kernels::AdamW;
use mor_shaders::SUM_SQUARES_CHUNK;

use crate::ops::backend::gpu::writable;
use crate::ops::backend::launch::{Op, launch_units, numbers};

/// What Burn dispatches; arguments and shapes as in the functions of [`super`].
#[backend_extension(Cube)]
pub(super) trait UpdateOps: Backend {
    fn adamw(
        values: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        settings: AdamW,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    fn momentum(
        gradient: FloatTensor<Self>,
        momentum: FloatTensor<Self>,
        decay: f32,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    fn scaled_sum(x: FloatTensor<Self>, a: f32, y: FloatTensor<Self>, b: f32) -> FloatTensor<Self>;

    /// `sums` with those of `x` from `place` on.
    fn sum_squares(
        x: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        place: usize,
    ) -> FloatTensor<Self>;
}

impl UpdateOps for CubeBackend {
    fn adamw(
        values: CubeTensor,
        gradient: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        settings: AdamW,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let gradient = into_contiguous(gradient);
        let [values, first, second] = [values, first, second].map(into_contiguous).map(writable);
        let client = values.client.clone();
        let factors = settings.factors();
        let params = number_and_floats(
            elements(&values),
            &[
                settings.grad_scale,
                settings.beta1,
                settings.beta2,
                factors.keep,
                factors.step_size,
                factors.root_scale,
                settings.eps,
            ],
        );
        let buffers = vec![
            gradient.handle,
            values.handle.clone(),
            first.handle.clone(),
            second.handle.clone(),
        ];
        launch_units(&client, Op::AdamW, elements(&values), buffers, &params);
        (values, first, second)
    }

    fn momentum(
        gradient: CubeTensor,
        momentum: CubeTensor,
        decay: f32,
        scale: f32,
    ) -> (CubeTensor, CubeTensor) {
        let [gradient, momentum] = [gradient, momentum].map(into_contiguous).map(writable);
        let client = momentum.client.clone();
        let len = elements(&momentum);
        let params = number_and_floats(len, &[decay, (1.0 - decay) * scale]);
        let buffers = vec![gradient.handle.clone(), momentum.handle.clone()];
        launch_units(&client, Op::Momentum, len, buffers, &params);
        (gradient, momentum)
    }

    fn scaled_sum(x: CubeTensor, a: f32, y: CubeTensor, b: f32) -> CubeTensor {
        let (x, y) = (into_contiguous(x), writable(into_contiguous(y)));
        let client = y.client.clone();
        let params = number_and_floats(elements(&y), &[a, b]);
        let buffers = vec![x.handle, y.handle.clone()];
        launch_units(&client, Op::ScaledSum, elements(&y), buffers, &params);
        y
    }

    fn sum_squares(x: CubeTensor, sums: CubeTensor, place: usize) -> CubeTensor {
        let (x, sums) = (into_contiguous(x), writable(sums));
        let client = x.client.clone();
        let units = elements(&x).div_ceil(SUM_SQUARES_CHUNK as usize);
        let params = numbers([elements(&x), place]);
        let buffers = vec![x.handle, sums.handle.clone()];
        launch_units(&client, Op::SumSquares, units, buffers, &params);
        sums
    }
}

/// The numbers of a shader that reads a length and then the bits of floats.
fn number_and_floats(number: usize, floats: &[f32]) -> Vec<u32> {
    let floats = floats.iter().map(|float| float.to_bits());
    std::iter::once(number as u32).chain(floats).collect()
}

fn elements(x: &CubeTensor) -> usize {
    x.shape().num_elements()
}
