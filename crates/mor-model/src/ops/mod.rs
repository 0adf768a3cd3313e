//! The operations a model is made of, each in two forms: composed from Burn's operations (any
//! device and precision, and the reference the other is tested against), and fused (the CPU, in f32). Attention,
//! layer norm, rotary positions, routing, GELU, the cross-entropy and biases have kernels on GPUs too.

mod attention;
pub(crate) mod backend;
pub mod composed;
mod fused;
#[cfg(feature = "gpu")]
mod gpu;
mod layer_norm;
mod rotary;
mod rows;
pub mod update;

use burn::backend::Dispatch;
use burn::tensor::{Device, Distribution, Int, Tensor};
use mor_kernels::MatmulPrecision;

pub use attention::causal_attention;
use backend::has_cpu_kernels;
#[cfg(feature = "gpu")]
use backend::has_kernels;
pub use backend::is_cpu;
use backend::operands::maybe_float;
use fused::{FusedOps, SharedLosses};
pub use layer_norm::layer_norm;
pub use rotary::{Positions, rotary};
pub use rows::{gather_rows, scatter_rows, select_rows};

/// `x · weightᵀ + bias`: `x: [batch, seq, in]`, `weight: [out, in]`, `bias: [out]`. `matmul` is the precision of the
/// products on the CPU in f32, backward ones included; elsewhere the tensors' own is theirs.
pub fn linear(
    matmul: MatmulPrecision,
    x: Tensor<3>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<3> {
    if has_cpu_kernels(&x) {
        return Tensor::from_dispatch(Dispatch::fused_linear(
            x.into_dispatch(),
            weight.into_dispatch(),
            maybe_float(bias),
            matmul,
        ));
    }
    #[cfg(feature = "gpu")]
    if has_kernels(&x) {
        return gpu::linear(x, weight, bias);
    }
    composed::linear(x, weight, bias)
}

/// `gelu(linear(x, weight, bias))` with the exact (erf) GELU; arguments as in [`linear`].
pub fn linear_gelu(
    matmul: MatmulPrecision,
    x: Tensor<3>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<3> {
    if has_cpu_kernels(&x) {
        return Tensor::from_dispatch(Dispatch::fused_linear_gelu(
            x.into_dispatch(),
            weight.into_dispatch(),
            maybe_float(bias),
            matmul,
        ));
    }
    #[cfg(feature = "gpu")]
    if has_kernels(&x) {
        return gpu::linear_gelu(x, weight, bias);
    }
    composed::linear_gelu(x, weight, bias)
}

/// Rows of `table: [entries, dim]` at `ids: [batch, seq]`, `[batch, seq, dim]`.
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    if has_cpu_kernels(&table) {
        return Tensor::from_dispatch(Dispatch::fused_embedding(
            table.into_dispatch(),
            ids.into_dispatch(),
        ));
    }
    composed::embedding(table, ids)
}

/// Mean cross-entropy, `[1]`, of `hidden · weightᵀ` against `targets`, over the rows whose target is in the vocabulary
/// and not `ignore`, zero when there is none; and the losses of the rows, without a gradient. `hidden: [rows, dim]`,
/// `weight: [vocab, dim]`, `targets: [rows]`; `matmul` as in [`linear`].
pub fn linear_cross_entropy(
    matmul: MatmulPrecision,
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore: i64,
) -> (Tensor<1>, RowLosses) {
    if has_cpu_kernels(&hidden) {
        let losses = SharedLosses::default();
        let mean = Tensor::from_dispatch(Dispatch::fused_cross_entropy(
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

/// While training, zeroes each value with `probability` and scales the others so that the mean
/// stays. What is zeroed follows from the device's seed.
pub fn dropout(x: Tensor<3>, probability: f32, training: bool) -> Tensor<3> {
    if !training || probability == 0.0 {
        return x;
    }
    if has_cpu_kernels(&x) {
        let seed = draw_seed(&x.device());
        return Tensor::from_dispatch(Dispatch::fused_dropout(
            x.into_dispatch(),
            probability,
            seed,
        ));
    }
    let keep = 1.0 - f64::from(probability);
    let mask = x.random_like(Distribution::Bernoulli(keep));
    x * mask * keep.recip()
}

/// A number from the device's random numbers.
fn draw_seed(device: &Device) -> u64 {
    let drawn = Tensor::<1>::random([4], Distribution::Uniform(0.0, 65_536.0), device);
    let drawn = drawn.into_data().convert::<f32>();
    let drawn = drawn.as_slice::<f32>().unwrap_or_default();
    let halves = drawn.iter().map(|half| *half as u64 & 0xFFFF);
    halves.fold(0, |seed, half| seed << 16 | half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_keeps_the_mean_and_only_acts_in_training() {
        let x: Tensor<3> = Tensor::ones([10, 100, 100], &Device::flex());
        let values = |x: Tensor<3>| x.into_data().try_into_vec::<f32>().expect("f32");
        let dropped = values(dropout(x.clone(), 0.25, true));
        let zeros = dropped.iter().filter(|v| **v == 0.0).count();
        assert!((24_000..26_000).contains(&zeros), "{zeros}");
        assert!(
            dropped
                .iter()
                .all(|v| *v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6)
        );
        assert!(values(dropout(x, 0.25, false)).iter().all(|v| *v == 1.0));
    }
}
