//! Which rows of a batch take a step, gathering them, and putting them back.

mod autodiff;
pub(super) mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

use super::backend::has_kernels;
use autodiff::RowOps;

/// The numbers of the entries of `depths: [rows]` that are above `step`, in increasing order, in the first places of a
/// list `[rows]`; and `[1]`, how many there are.
pub fn select_rows(depths: Tensor<1, Int>, step: u32) -> (Tensor<1, Int>, Tensor<1, Int>) {
    let (list, count) = Dispatch::custom_select(depths.into_dispatch(), step);
    (Tensor::from_dispatch(list), Tensor::from_dispatch(count))
}

/// The rows of `x: [rows, ..]` at the first `count` numbers of `list`, which must not repeat, `[count, ..]`.
pub fn gather_rows<const D: usize>(x: Tensor<D>, list: Tensor<1, Int>, count: usize) -> Tensor<D> {
    if has_kernels(&x) {
        return Tensor::from_dispatch(Dispatch::custom_gather(
            x.into_dispatch(),
            list.into_dispatch(),
            count,
        ));
    }
    composed::gather_rows(x, list, count)
}

/// `x: [rows, ..]` with the rows at the first numbers of `list`, which must not repeat, replaced by `rows: [count,
/// ..]`.
pub fn scatter_rows<const D: usize>(
    x: Tensor<D>,
    rows: Tensor<D>,
    list: Tensor<1, Int>,
) -> Tensor<D> {
    if has_kernels(&x) {
        return Tensor::from_dispatch(Dispatch::custom_scatter(
            x.into_dispatch(),
            rows.into_dispatch(),
            list.into_dispatch(),
        ));
    }
    composed::scatter_rows(x, rows, list)
}
