//! Linear layers. On the CPU all of one is a kernel; on a GPU the product is Burn's, and what is added to it has kernels.

pub(super) mod composed;
pub(super) mod cpu;
#[cfg(feature = "gpu")]
pub(super) mod gpu;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use mor_kernels::MatmulPrecision;

use super::backend::has_cpu_kernels;
#[cfg(feature = "gpu")]
use super::backend::has_kernels;
use super::backend::operands::maybe_float;
use cpu::CpuLinear;

/// `x · weightᵀ + bias`: `x: [batch, seq, in]`, `weight: [out, in]`, `bias: [out]`. `matmul` is the precision of the
/// products on the CPU in f32, backward ones included; elsewhere the tensors' own is theirs.
pub fn linear(
    matmul: MatmulPrecision,
    x: Tensor<3>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<3> {
    if has_cpu_kernels(&x) {
        return Tensor::from_dispatch(Dispatch::cpu_linear(
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
