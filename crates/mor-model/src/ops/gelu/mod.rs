//! Linear layers with the exact GELU, x · (1 + erf(x / √2)) / 2, behind them. A kernel does both on the CPU; on a GPU one
//! adds the bias on the way to the GELU.

pub(super) mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use mor_kernels::MatmulPrecision;

use super::backend::has_cpu_kernels;
#[cfg(feature = "gpu")]
use super::backend::has_kernels;
use super::backend::operands::maybe_float;
use cpu::CpuLinearGelu;

/// `gelu(linear(x, weight, bias))` with the exact (erf) GELU; arguments as in [`linear()`](super::linear()).
pub fn linear_gelu(
    matmul: MatmulPrecision,
    x: Tensor<3>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<3> {
    if has_cpu_kernels(&x) {
        return Tensor::from_dispatch(Dispatch::cpu_linear_gelu(
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
