//! Moving rows by Burn's own operations, for any device and precision.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

/// See [`super::gather_rows`].
pub fn gather_rows<const D: usize>(x: Tensor<D>, list: Tensor<1, Int>, count: usize) -> Tensor<D> {
    x.select(0, list.narrow(0, 0, count))
}

/// See [`super::scatter_rows`].
pub fn scatter_rows<const D: usize>(
    x: Tensor<D>,
    rows: Tensor<D>,
    list: Tensor<1, Int>,
) -> Tensor<D> {
    let count = rows.dims()[0];
    let list = list.narrow(0, 0, count);
    // Assigning is adding: what is there goes first.
    let old = x.clone().select(0, list.clone());
    x.select_assign(0, list.clone(), old.neg(), IndexingUpdateOp::Add)
        .select_assign(0, list, rows, IndexingUpdateOp::Add)
}
