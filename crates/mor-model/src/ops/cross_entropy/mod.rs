//! The output head and the cross-entropy of what it predicts: the mean over rows, and the loss of each.

pub(super) mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
mod shared_losses;

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};
use mor_kernels::MatmulPrecision;

use super::backend::has_cpu_kernels;
#[cfg(feature = "gpu")]
use super::backend::has_kernels;
use cpu::CpuCrossEntropy;
use shared_losses::SharedLosses;

/// Mean cross-entropy, `[1]`, of `hidden · weightᵀ` against `targets`, over the rows whose target is in the vocabulary
/// and not `ignore`, zero when there is none; and the losses of the rows, without a gradient. `hidden: [rows, dim]`,
/// `weight: [vocab, dim]`, `targets: [rows]`; `matmul` as in [`linear()`](super::linear()).
pub fn linear_cross_entropy(
    matmul: MatmulPrecision,
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore: i64,
) -> (Tensor<1>, RowLosses) {
    if has_cpu_kernels(&hidden) {
        let losses = SharedLosses::default();
        let mean = Tensor::from_dispatch(Dispatch::cpu_cross_entropy(
            hidden.into_dispatch(),
            weight.into_dispatch(),
            targets.into_dispatch(),
            ignore,
            losses.clone(),
            matmul,
        ));
        return (mean, RowLosses::Values(losses.take()));
    }
    let vocab = weight.dims()[0];
    let losses = linear_cross_entropy_losses(hidden, weight, targets.clone(), ignore);
    let mean = composed::mean_of_counted(losses.clone(), &targets, vocab, ignore);
    (mean, RowLosses::Tensor(Box::new(losses)))
}

/// The rows' losses of [`linear_cross_entropy`], `[rows]`.
fn linear_cross_entropy_losses(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore: i64,
) -> Tensor<1> {
    #[cfg(feature = "gpu")]
    if has_kernels(&hidden) {
        return gpu::linear_cross_entropy_losses(hidden, weight, targets, ignore);
    }
    composed::linear_cross_entropy_losses(hidden, weight, targets, ignore)
}

/// The loss of each row, zero where its target does not count; on a GPU not read back before it is asked for.
#[derive(Debug, Clone)]
pub enum RowLosses {
    /// In memory.
    Values(Vec<f32>),
    /// `[rows]`, on the device.
    Tensor(Box<Tensor<1>>),
}

impl RowLosses {
    /// The losses in memory.
    pub fn into_values(self) -> Vec<f32> {
        match self {
            Self::Values(values) => values,
            Self::Tensor(tensor) => {
                let data = tensor.without_autodiff().into_data().convert::<f32>();
                data.try_into_vec().unwrap_or_default()
            }
        }
    }
}
