//! Operations that only GPUs have by themselves: on the CPU they are parts of bigger ones in `crate::ops::fused`.
//!
//! [`GpuOps`] is a backend extension: Burn dispatches to the implementation for `CubeBackend`, or, when a tensor is
//! tracked, to the one for `Autodiff<CubeBackend>`, which records the hand-written backward.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Int, Tensor};

use super::{bias, gelu, row_losses};
use crate::ops::backend::gpu::Tracked;
use crate::ops::backend::operands::{MaybeFloat, maybe_float, stored_as};
use crate::ops::composed;

/// The operations of this file's end, on the primitives of a backend.
#[backend_extension(Autodiff, Cube)]
#[allow(
    missing_docs,
    reason = "each is documented where the crate's users see it"
)]
pub(super) trait GpuOps: Backend {
    fn gpu_gelu(
        x: FloatTensor<Self>,
        #[extension_type] bias: MaybeFloat<Self>,
    ) -> FloatTensor<Self>;

    fn gpu_add_bias(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    fn gpu_row_losses(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        ignore: i64,
    ) -> FloatTensor<Self>;
}

impl GpuOps for CubeBackend {
    fn gpu_gelu(x: CubeTensor, bias: MaybeFloat<Self>) -> CubeTensor {
        gelu::forward(into_contiguous(x), bias.given().map(into_contiguous)).0
    }

    fn gpu_add_bias(x: CubeTensor, bias: CubeTensor) -> CubeTensor {
        bias::add(x, bias)
    }

    fn gpu_row_losses(logits: CubeTensor, targets: CubeTensor, ignore: i64) -> CubeTensor {
        row_losses::forward(into_contiguous(logits), targets, ignore).0
    }
}

impl<C: CheckpointStrategy> GpuOps for Autodiff<CubeBackend, C> {
    fn gpu_gelu(x: Tracked, bias: MaybeFloat<Self>) -> Tracked {
        gelu::record::<C>(x, bias.given())
    }

    fn gpu_add_bias(x: Tracked, bias: Tracked) -> Tracked {
        bias::record::<C>(x, bias)
    }

    fn gpu_row_losses(logits: Tracked, targets: CubeTensor, ignore: i64) -> Tracked {
        row_losses::record::<C>(logits, targets, ignore)
    }
}

/// See [`crate::ops::linear`].
pub(in crate::ops) fn linear(
    x: Tensor<3>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<3> {
    let product = composed::linear(x, weight, None);
    match bias {
        None => product,
        Some(bias) => Tensor::from_dispatch(Dispatch::gpu_add_bias(
            product.into_dispatch(),
            stored_as(bias, DType::F32).into_dispatch(),
        )),
    }
}

/// See [`crate::ops::linear_gelu`]. The bias is added on the way to the GELU.
pub(in crate::ops) fn linear_gelu(
    x: Tensor<3>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<3> {
    let product = composed::linear(x, weight, None);
    let bias = bias.map(|bias| stored_as(bias, DType::F32));
    Tensor::from_dispatch(Dispatch::gpu_gelu(
        product.into_dispatch(),
        maybe_float(bias),
    ))
}

/// The rows' losses of [`crate::ops::linear_cross_entropy`], in f32 from logits in the precision of `hidden`. A target
/// beyond the vocabulary has none.
pub(in crate::ops) fn linear_cross_entropy_losses(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore: i64,
) -> Tensor<1> {
    losses_in_parts(
        hidden,
        weight,
        targets,
        ignore,
        crate::gpu::largest_buffer(),
    )
}

/// As [`linear_cross_entropy_losses`], by as many rows at a time as have logits of no more than `largest` bytes.
fn losses_in_parts(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore: i64,
    largest: usize,
) -> Tensor<1> {
    let losses = |hidden: Tensor<2>, weight: Tensor<2>, targets: Tensor<1, Int>| {
        let logits = hidden.matmul(weight);
        Tensor::from_dispatch(Dispatch::gpu_row_losses(
            logits.into_dispatch(),
            targets.into_dispatch(),
            ignore,
        ))
    };
    let ([rows, _], [vocab, _]) = (hidden.dims(), weight.dims());
    let weight = stored_as(weight, hidden.dtype()).transpose();
    let most = (largest / (vocab * hidden.dtype().size()).max(1)).max(1);
    if rows <= most {
        return losses(hidden, weight, targets);
    }
    // Of about one size, so that few kernels are compiled.
    let of_part = rows.div_ceil(rows.div_ceil(most));
    let parts = (0..rows).step_by(of_part).map(|start| {
        let count = of_part.min(rows - start);
        losses(
            hidden.clone().narrow(0, start, count),
            weight.clone(),
            targets.clone().narrow(0, start, count),
        )
    });
    Tensor::cat(parts.collect(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, FloatDType, TensorData};

    /// Losses of the rows, and the gradients of hidden states and weights, with no more than `largest` bytes of logits.
    fn losses(device: &Device, half: bool, largest: usize) -> [Vec<f32>; 3] {
        let (rows, dim, vocab) = (23, 6, 40);
        let leaf = |rows: usize, seed: usize| -> Tensor<2> {
            let numbers = (0..rows * dim).map(|at| ((at * 7919 + seed) as f32 * 0.618).sin());
            let data = TensorData::new(numbers.collect::<Vec<f32>>(), [rows, dim]);
            Tensor::from_data(data, device).require_grad()
        };
        let (hidden, weight) = (leaf(rows, 1), leaf(vocab, 2));
        let targets: Vec<i64> = (0..rows as i64)
            .map(|row| if row % 5 == 3 { -1 } else { row * 11 % 40 })
            .collect();
        let targets = Tensor::from_data(targets.as_slice(), device);
        let rows = match half {
            true => hidden.clone().cast(FloatDType::F16),
            false => hidden.clone(),
        };
        let losses = losses_in_parts(rows, weight.clone(), targets, -1, largest);
        let weights = Tensor::arange(0..23, device).float().sin();
        let gradients = (losses.clone() * weights).sum().backward();
        let read = |data: TensorData| data.try_into_vec::<f32>().expect("f32");
        [
            read(losses.without_autodiff().into_data()),
            read(hidden.grad(&gradients).expect("a gradient").into_data()),
            read(weight.grad(&gradients).expect("a gradient").into_data()),
        ]
    }

    #[test]
    fn parts_have_the_losses_and_gradients_of_the_whole() {
        let gpu = crate::open_device(crate::DeviceChoice::Gpu);
        let device = gpu.unwrap_or_else(|error| panic!("{error}")).device;
        let device = device.autodiff();
        for half in [false, true] {
            let whole = losses(&device, half, usize::MAX);
            // Less than a row's, two rows', and all but one's.
            for largest in [1, 2 * 40 * 4, 22 * 40 * 4] {
                for (found, expected) in losses(&device, half, largest).iter().zip(&whole) {
                    let pairs = found.iter().zip(expected);
                    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    println!("{largest} bytes, f16 {half}: {worst:.1e}");
                    assert_eq!(found.len(), expected.len());
                    let tolerance = if half { 5e-3 } else { 1e-5 };
                    assert!(worst < tolerance, "{largest} bytes: {worst}");
                }
            }
        }
    }
}
