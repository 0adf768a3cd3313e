//! Attention from Burn's own operations, for any device and precision.

use burn::tensor::{Bool, DType, Tensor, TensorData, activation};

/// See [`super::causal_attention`].
pub fn causal_attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    key_mask: Option<Tensor<2, Bool>>,
    heads: usize,
) -> Tensor<3> {
    let [batch, seq, dim] = q.dims();
    let head_dim = dim / heads;
    let device = q.device();
    let split = |x: Tensor<3>| x.reshape([batch, seq, heads, head_dim]).swap_dims(1, 2);
    let scale = (head_dim as f64).sqrt().recip();
    // Scaled first: the products could leave the range of f16.
    let scores = (split(q) * scale).matmul(split(k).swap_dims(2, 3));

    // True where a query must not look: at later keys, and at masked ones.
    let later: Vec<bool> = (0..seq * seq).map(|at| at % seq > at / seq).collect();
    let later = TensorData::new(later, [1, 1, seq, seq]);
    let later: Tensor<4, Bool> = Tensor::from_data(later, &device);
    let scores_shape = [batch, heads, seq, seq];
    let mut hidden = later.expand(scores_shape);
    if let Some(mask) = key_mask {
        let masked: Tensor<4, Bool> = mask.bool_not().reshape([batch, 1, 1, seq]);
        hidden = hidden.bool_or(masked.expand(scores_shape));
    }
    // A finite fill keeps the softmax of a row without keys finite; the second fill zeroes it.
    let lowest = if scores.dtype() == DType::F16 {
        -3e4
    } else {
        -1e30
    };
    let scores = scores.mask_fill(hidden.clone(), lowest);
    let weights = activation::softmax(scores, 3).mask_fill(hidden, 0.0);
    weights
        .matmul(split(v))
        .swap_dims(1, 2)
        .reshape([batch, seq, dim])
}
