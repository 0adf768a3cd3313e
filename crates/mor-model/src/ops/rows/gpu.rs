//! Selecting and moving rows over the shaders `select`, `gather`, `scatter` and `scatter_clear`.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::DType;
use mor_shaders::{Gather, Scatter};

use super::autodiff::RowKernels;
use crate::ops::backend::gpu::{empty, is_half, words, writable};
use crate::ops::backend::launch::{Op, launch, numbers};

/// Elements of a row.
fn stride(x: &CubeTensor) -> u32 {
    x.shape().iter().skip(1).product::<usize>() as u32
}

impl RowKernels for CubeBackend {
    fn select(depths: CubeTensor, step: u32) -> (CubeTensor, CubeTensor) {
        let depths = words(depths);
        let rows = depths.shape().num_elements();
        let list = empty(&depths, [rows], DType::I32);
        let count = empty(&depths, [1], DType::I32);
        let client = depths.client.clone();
        let buffers = vec![depths.handle, list.handle.clone(), count.handle.clone()];
        let params = [rows as u32, 0, step];
        launch(&client, Op::Select, [1, 1, 1], buffers, &params);
        (list, count)
    }

    fn gather(x: CubeTensor, list: CubeTensor, count: usize) -> CubeTensor {
        let mut shape = x.shape();
        shape[0] = count;
        let op = Gather {
            stride: stride(&x),
            half: is_half(&x),
        };
        let rows = empty(&x, shape, x.dtype);
        let client = x.client.clone();
        let buffers = vec![x.handle, words(list).handle, rows.handle.clone()];
        let grid = op.workgroups(count as u32);
        launch(&client, Op::Gather(op), grid, buffers, &numbers([count]));
        rows
    }

    fn scatter(x: CubeTensor, rows: CubeTensor, list: CubeTensor) -> CubeTensor {
        let x = writable(x);
        let count = rows.shape()[0];
        let op = Scatter {
            stride: stride(&x),
            half: is_half(&x),
        };
        let client = x.client.clone();
        let buffers = vec![rows.handle, words(list).handle, x.handle.clone()];
        let grid = op.workgroups(count as u32);
        launch(&client, Op::Scatter(op), grid, buffers, &numbers([count]));
        x
    }

    fn clear(x: CubeTensor, list: CubeTensor, count: usize) -> CubeTensor {
        let x = writable(x);
        let op = Scatter {
            stride: stride(&x),
            half: is_half(&x),
        };
        let client = x.client.clone();
        let buffers = vec![words(list).handle, x.handle.clone()];
        let grid = op.workgroups(count as u32);
        launch(&client, Op::Clear(op), grid, buffers, &numbers([count]));
        x
    }

    fn spread(rows: CubeTensor, list: CubeTensor, total: usize) -> CubeTensor {
        let mut shape = rows.shape();
        shape[0] = total;
        let zeros = Self::float_zeros(shape, &rows.device, rows.dtype.into());
        Self::scatter(zeros, rows, list)
    }
}
