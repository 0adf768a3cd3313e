//! Every operation from Burn's own: runs on any device, and is what the fused ones are tested
//! against. Arguments as in the functions of the same names in [`super`].

use burn::tensor::{Bool, FloatDType, Int, Tensor, activation, module};

use super::backend::operands::stored_as;

pub use super::attention::composed::causal_attention;
pub use super::layer_norm::composed::layer_norm;
pub use super::rotary::composed::rotary;
pub use super::rows::composed::{gather_rows, scatter_rows};

/// See [`super::linear`].
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let dtype = x.dtype();
    let bias = bias.map(|bias| stored_as(bias, dtype));
    module::linear(x, stored_as(weight, dtype).transpose(), bias)
}

/// See [`super::linear_gelu`].
pub fn linear_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    gelu(linear(x, weight, bias))
}

/// `x · (1 + erf(x / √2)) / 2`, whose gradient autodiff finds: that of Burn's own is the approximate form's.
pub fn gelu(x: Tensor<3>) -> Tensor<3> {
    let twice = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    x * twice * 0.5
}

/// See [`super::embedding`].
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    module::embedding(table, ids)
}

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
