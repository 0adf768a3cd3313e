//! Causal attention of heads that lie side by side, so that nothing is transposed: softmax(q · kᵀ / √head_dim) · v of
//! each head, over the keys up to the query's place.

mod autodiff;
pub(super) mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;

use burn::backend::Dispatch;
use burn::tensor::{Bool, Tensor};

use super::backend::operands::maybe_bool;
use super::backend::{has_cpu_kernels, has_kernels};
use autodiff::AttentionOps;

/// The widest head of the attention shaders.
const WIDEST_HEAD: usize = 256;

/// Causal attention with `heads` heads side by side in the last dimension of `q`, `k` and
/// `v: [batch, seq, dim]`. `key_mask: [batch, seq]` is true at the keys that may be seen; a
/// position that sees none gets zeros.
pub fn causal_attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    key_mask: Option<Tensor<2, Bool>>,
    heads: usize,
) -> Tensor<3> {
    let [.., dim] = q.dims();
    if has_kernels(&q) && (has_cpu_kernels(&q) || dim <= WIDEST_HEAD * heads) {
        return Tensor::from_dispatch(Dispatch::custom_attention(
            q.into_dispatch(),
            k.into_dispatch(),
            v.into_dispatch(),
            maybe_bool(key_mask),
            heads,
        ));
    }
    composed::causal_attention(q, k, v, key_mask, heads)
}
