//! The cross-entropy from Burn's own operations, for any device and precision.

use burn::tensor::{Bool, FloatDType, Int, Tensor, activation};

use crate::ops::backend::operands::stored_as;

/// The rows' losses of [`super::linear_cross_entropy`].
pub fn linear_cross_entropy_losses(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore: i64,
) -> Tensor<1> {
    let ignored = is_counted(&targets, weight.dims()[0], ignore).bool_not();
    let targets: Tensor<2, Int> = targets.mask_fill(ignored.clone(), 0).unsqueeze_dim(1);
    let weight = stored_as(weight, hidden.dtype());
    let logits = hidden.matmul(weight.transpose()).cast(FloatDType::F32);
    let log_probs = activation::log_softmax(logits, 1);
    let losses: Tensor<1> = log_probs.gather(1, targets).squeeze_dim(1);
    losses.neg().mask_fill(ignored, 0.0)
}

/// The mean of rows' losses over those whose target counts.
pub fn mean_of_counted(
    losses: Tensor<1>,
    targets: &Tensor<1, Int>,
    vocab: usize,
    ignore: i64,
) -> Tensor<1> {
    let count = is_counted(targets, vocab, ignore).float().sum();
    losses.sum() / count.clamp_min(1.0)
}

/// Which targets are tokens of the vocabulary, and not the one to ignore.
fn is_counted(targets: &Tensor<1, Int>, vocab: usize, ignore: i64) -> Tensor<1, Bool> {
    let nearest = targets.clone().clamp(0, vocab as i64 - 1);
    let known = nearest.equal(targets.clone());
    if (0..vocab as i64).contains(&ignore) {
        return known.bool_and(targets.clone().not_equal_elem(ignore));
    }
    known
}
