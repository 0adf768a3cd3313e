//! What all operations share: which kernels a tensor is for, and the ways to them. No operation is imported here.

pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(feature = "gpu")]
pub(crate) mod launch;
pub(crate) mod operands;
pub(crate) mod pool;
pub(crate) mod record;

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Device, Tensor};

/// Whether tensors of this device live in Burn's CPU backend, with or without autodiff.
pub fn is_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// Whether a tensor is one for the kernels that only the CPU has: there, in f32.
pub(crate) fn has_cpu_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && is_cpu(&x.device())
}

/// Whether a tensor is one for the kernels that CPU and GPUs have: on a GPU also in f16.
pub(crate) fn has_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    match is_cpu(&x.device()) {
        true => x.dtype() == DType::F32,
        false => cfg!(feature = "gpu") && matches!(x.dtype(), DType::F32 | DType::F16),
    }
}

/// A backend that kernels of this project run on.
pub(crate) trait KernelBackend: Backend {
    /// The tensor itself when its values lie in memory in row-major order, else a copy that does.
    fn contiguous(x: FloatTensor<Self>) -> FloatTensor<Self>;
}
