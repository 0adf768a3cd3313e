//! The cross-entropy of rows of logits over the shaders `row_losses` and `row_losses_backward`, recorded for its backward
//! pass. The logits themselves are Burn's product.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Int, Tensor};
use mor_shaders::RowLosses;

use crate::ops::backend::gpu::{Tracked, empty, is_half, words, writable};
use crate::ops::backend::launch::{Op, largest_buffer, launch, variant};
use crate::ops::backend::operands::stored_as;
use crate::ops::backend::record;

/// The rows' losses of [`super::linear_cross_entropy`], in f32 from logits in the precision of `hidden`. A target
/// beyond the vocabulary has none.
pub(super) fn linear_cross_entropy_losses(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore: i64,
) -> Tensor<1> {
    losses_in_parts(hidden, weight, targets, ignore, largest_buffer())
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

/// What Burn dispatches.
#[backend_extension(Autodiff, Cube)]
trait GpuRowLosses: Backend {
    fn gpu_row_losses(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        ignore: i64,
    ) -> FloatTensor<Self>;
}

impl GpuRowLosses for CubeBackend {
    fn gpu_row_losses(logits: CubeTensor, targets: CubeTensor, ignore: i64) -> CubeTensor {
        forward(into_contiguous(logits), targets, ignore).0
    }
}

impl<C: CheckpointStrategy> GpuRowLosses for Autodiff<CubeBackend, C> {
    fn gpu_row_losses(logits: Tracked, targets: CubeTensor, ignore: i64) -> Tracked {
        record::<C>(logits, targets, ignore)
    }
}

/// What the backward needs.
#[derive(Debug, Clone)]
struct Saved {
    /// `[rows, vocab]`.
    logits: CubeTensor,
    /// `[rows]`.
    targets: CubeTensor,
    ignore: i64,
    /// Logarithms of the rows' summed exponentials, `[rows]`.
    logsumexp: CubeTensor,
}

/// The shader for `logits: [rows, vocab]`, and its number of rows.
fn shader(logits: &CubeTensor) -> (RowLosses, usize) {
    let [rows, vocab] = logits.shape().dims::<2>();
    let op = RowLosses {
        vocab: vocab as u32,
        half: is_half(logits),
    };
    (op, rows)
}

fn params(rows: usize, ignore: i64) -> [u32; 2] {
    // Targets are in 32 bits too.
    [rows as u32, ignore as i32 as u32]
}

/// The losses, `[rows]`, of contiguous `logits: [rows, vocab]` against `targets: [rows]`.
fn forward(logits: CubeTensor, targets: CubeTensor, ignore: i64) -> (CubeTensor, Saved) {
    let targets = words(targets);
    let (op, rows) = shader(&logits);
    let losses = empty(&logits, [rows], DType::F32);
    let logsumexp = empty(&logits, [rows], DType::F32);
    let buffers = vec![
        logits.handle.clone(),
        targets.handle.clone(),
        losses.handle.clone(),
        logsumexp.handle.clone(),
    ];
    let grid = op.workgroups(variant(), rows as u32);
    let params = params(rows, ignore);
    launch(&logits.client, Op::RowLosses(op), grid, buffers, &params);
    let saved = Saved {
        logits,
        targets,
        ignore,
        logsumexp,
    };
    (losses, saved)
}

/// The gradient of the logits from that of the losses, in their memory where nothing else holds that.
fn backward(saved: Saved, d_losses: CubeTensor) -> CubeTensor {
    let Saved {
        logits,
        targets,
        ignore,
        logsumexp,
    } = saved;
    let d = writable(logits);
    let (op, rows) = shader(&d);
    let buffers = vec![
        targets.handle,
        logsumexp.handle,
        d_losses.handle,
        d.handle.clone(),
    ];
    let grid = op.backward_workgroups(rows as u32);
    let params = params(rows, ignore);
    launch(&d.client, Op::RowLossesBackward(op), grid, buffers, &params);
    d
}

fn record<C: CheckpointStrategy>(logits: Tracked, targets: CubeTensor, ignore: i64) -> Tracked {
    let (logits, node) = logits.into_parts();
    record::record::<CubeBackend, C, _, _, 1>(RowLossesBackward, [node], || {
        forward(into_contiguous(logits), targets, ignore)
    })
}

/// Parent: the logits.
#[derive(Debug)]
struct RowLossesBackward;

impl Backward<CubeBackend, 1> for RowLossesBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_losses = into_contiguous(grads.consume::<CubeBackend>(&ops.node));
        // Taken out, so that nothing else holds the logits.
        let Ops {
            parents,
            node,
            state,
        } = ops;
        let ops = Ops {
            parents,
            node,
            state: (),
        };
        record::register::<CubeBackend, _, 1>(&ops, grads, 0, || backward(state, d_losses));
    }
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
