//! The memory of CPU tensors as slices, and slices as tensors.

use burn::backend::TensorMetadata;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::DType;

use super::pool::Buffer;

/// The tensor itself when its values lie in memory in row-major order, else a copy that does.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.layout().contiguous_offsets().is_some() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// The values of a contiguous f32 tensor; the kernels check the length.
pub(super) fn floats(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().unwrap_or_default()
}

/// A buffer for a kernel to overwrite.
pub(super) fn buffer(len: usize) -> Buffer {
    Buffer::new(len)
}

/// A tensor of these values, which are not copied.
pub(super) fn tensor(values: Buffer, shape: &[usize]) -> FlexTensor {
    let layout = Layout::contiguous(shape.to_vec().into());
    FlexTensor::new(values.into_bytes(), layout, DType::F32)
}

/// A tensor of one number, `[1]`.
pub(super) fn scalar(value: f32) -> FlexTensor {
    let mut one = Buffer::new(1);
    one.fill(value);
    tensor(one, &[1])
}

/// Ids as the kernels take them.
pub(super) fn ids(tensor: &FlexTensor) -> Vec<i64> {
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
pub(super) fn flags(tensor: FlexTensor) -> Vec<bool> {
    tensor
        .to_contiguous()
        .bytes()
        .iter()
        .map(|byte| *byte != 0)
        .collect()
}

/// The sizes of a tensor.
pub(super) fn dims(tensor: &FlexTensor) -> Vec<usize> {
    tensor.shape().to_vec()
}

/// The last size, and the product of the others.
pub(super) fn rows_and_width(dims: &[usize]) -> (usize, usize) {
    match dims.split_last() {
        Some((width, rows)) => (rows.iter().product(), *width),
        None => (1, 1),
    }
}
