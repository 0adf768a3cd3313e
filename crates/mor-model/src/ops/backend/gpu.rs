//! Tensors of a GPU as kernels take them and leave them.

use burn::backend::Autodiff;
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::{DType, IntDType, Shape};

use super::KernelBackend;

/// A tracked tensor of a GPU.
pub(crate) type Tracked = FloatTensor<Autodiff<CubeBackend>>;

impl KernelBackend for CubeBackend {
    fn contiguous(x: CubeTensor) -> CubeTensor {
        into_contiguous(x)
    }
}

/// A tensor for a kernel to overwrite, on the device of another.
pub(crate) fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    let shape = shape.into();
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        shape,
        handle,
        dtype,
    )
}

/// A contiguous tensor to write over: itself where nothing else holds its memory, else a copy.
pub(crate) fn writable(x: CubeTensor) -> CubeTensor {
    if x.can_mut() { x } else { x.copy() }
}

/// Integers as shaders read them.
pub(crate) fn words(x: CubeTensor) -> CubeTensor {
    into_contiguous(CubeBackend::int_cast(x, IntDType::I32))
}

/// Whether values are stored in f16.
pub(crate) fn is_half(x: &CubeTensor) -> bool {
    x.dtype == DType::F16
}
