//! Selecting and moving rows on the CPU.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;

use super::autodiff::RowKernels;
use crate::ops::backend::cpu::{buffer, dims, floats, ids, tensor};
use crate::ops::backend::pool::Buffer;

impl RowKernels for Flex {
    fn select(depths: FlexTensor, step: u32) -> (FlexTensor, FlexTensor) {
        let depths = ids(&depths);
        let chosen = depths.iter().enumerate();
        let chosen = chosen.filter(|(_, depth)| **depth > i64::from(step));
        let mut list: Vec<i64> = chosen.map(|(row, _)| row as i64).collect();
        let count = list.len() as i64;
        list.resize(depths.len(), 0);
        let list = TensorData::new(list, [depths.len()]);
        let count = TensorData::new(vec![count], [1]);
        (FlexTensor::from_data(list), FlexTensor::from_data(count))
    }

    fn gather(x: FlexTensor, list: FlexTensor, count: usize) -> FlexTensor {
        let mut shape = dims(&x);
        let stride = stride(&shape);
        let values = floats(&x);
        let mut out = buffer(count * stride);
        for (to, row) in out.chunks_exact_mut(stride.max(1)).zip(ids(&list)) {
            to.copy_from_slice(&values[row as usize * stride..][..stride]);
        }
        shape[0] = count;
        tensor(out, &shape)
    }

    fn scatter(x: FlexTensor, rows: FlexTensor, list: FlexTensor) -> FlexTensor {
        let shape = dims(&x);
        let stride = stride(&shape);
        let mut out = copy(&x);
        for (rows, row) in floats(&rows).chunks_exact(stride.max(1)).zip(ids(&list)) {
            out[row as usize * stride..][..stride].copy_from_slice(rows);
        }
        tensor(out, &shape)
    }

    fn clear(x: FlexTensor, list: FlexTensor, count: usize) -> FlexTensor {
        let shape = dims(&x);
        let stride = stride(&shape);
        let mut out = copy(&x);
        for row in ids(&list).into_iter().take(count) {
            out[row as usize * stride..][..stride].fill(0.0);
        }
        tensor(out, &shape)
    }

    fn spread(rows: FlexTensor, list: FlexTensor, total: usize) -> FlexTensor {
        let mut shape = dims(&rows);
        let stride = stride(&shape);
        let mut out = Buffer::zeroed(total * stride);
        for (rows, row) in floats(&rows).chunks_exact(stride.max(1)).zip(ids(&list)) {
            out[row as usize * stride..][..stride].copy_from_slice(rows);
        }
        shape[0] = total;
        tensor(out, &shape)
    }
}

/// Elements of a row.
fn stride(shape: &[usize]) -> usize {
    shape.iter().skip(1).product()
}

fn copy(x: &FlexTensor) -> Buffer {
    let values = floats(x);
    let mut out = buffer(values.len());
    out.copy_from_slice(values);
    out
}
