//! The memory of CPU tensors as slices, and slices as tensors.

use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::Ops;
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::DType;
use mor_kernels::AttentionShape;

use super::pool::Buffer;
use super::{KernelBackend, record};

/// A tracked tensor of the CPU.
pub(crate) type Tracked = FloatTensor<Autodiff<Flex>>;

impl KernelBackend for Flex {
    fn contiguous(x: FlexTensor) -> FlexTensor {
        contiguous(x)
    }
}

/// As [`record::register`], for the CPU.
pub(crate) fn register<S, const N: usize>(
    ops: &Ops<S, N>,
    grads: &mut Gradients,
    parent: usize,
    gradient: impl FnOnce() -> FlexTensor,
) {
    record::register::<Flex, S, N>(ops, grads, parent, gradient);
}

/// As [`KernelBackend::contiguous`].
pub(crate) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.layout().contiguous_offsets().is_some() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// The values of a contiguous f32 tensor; the kernels check the length.
pub(crate) fn floats(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().unwrap_or_default()
}

/// A buffer for a kernel to overwrite.
pub(crate) fn buffer(len: usize) -> Buffer {
    Buffer::new(len)
}

/// A tensor of these values, which are not copied.
pub(crate) fn tensor(values: Buffer, shape: &[usize]) -> FlexTensor {
    let layout = Layout::contiguous(shape.to_vec().into());
    FlexTensor::new(values.into_bytes(), layout, DType::F32)
}

/// A tensor of one number, `[1]`.
pub(crate) fn scalar(value: f32) -> FlexTensor {
    let mut one = Buffer::new(1);
    one.fill(value);
    tensor(one, &[1])
}

/// Ids as the kernels take them.
pub(crate) fn ids(tensor: &FlexTensor) -> Vec<i64> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I64 => tensor.as_slice::<i64>().unwrap_or_default().to_vec(),
        _ => {
            let data = tensor.into_data().convert::<i64>();
            data.try_into_vec().unwrap_or_default()
        }
    }
}

/// A Boolean tensor's values.
pub(crate) fn flags(tensor: FlexTensor) -> Vec<bool> {
    tensor
        .to_contiguous()
        .bytes()
        .iter()
        .map(|byte| *byte != 0)
        .collect()
}

/// The sizes of a tensor.
pub(crate) fn dims(tensor: &FlexTensor) -> Vec<usize> {
    tensor.shape().to_vec()
}

/// The last size, and the product of the others.
pub(crate) fn rows_and_width(dims: &[usize]) -> (usize, usize) {
    match dims.split_last() {
        Some((width, rows)) => (rows.iter().product(), *width),
        None => (1, 1),
    }
}

/// The sizes behind `x: [batch, seq, heads · head_dim]`.
pub(crate) fn attention_shape(x: &FlexTensor, heads: usize) -> AttentionShape {
    let (batch, seq, dim) = match dims(x).as_slice() {
        &[batch, seq, dim] => (batch, seq, dim),
        _ => (0, 0, 0),
    };
    AttentionShape {
        batch,
        seq,
        heads,
        head_dim: dim / heads,
    }
}
