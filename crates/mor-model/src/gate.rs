//! Whether a position of a recursive model takes another loop.

use burn::module::Module;
use burn::tensor::{FloatDType, Tensor};
use mor_kernels::MatmulPrecision;

use crate::Linear;

/// A linear function of a position's own state: normalised, beside how far the last loop moved it.
///
/// It sees nothing else, so it decides the same in training, in a prompt, and token by token.
#[derive(Module, Debug)]
pub struct Gate {
    /// `[1, dim + 1]`, with a bias.
    pub linear: Linear,
    /// Added to the variance.
    pub eps: f32,
}

impl Gate {
    /// The logit of going on, `[batch, seq, 1]`, of states `x: [batch, seq, dim]` that were `before` ahead of the loop.
    pub fn forward(&self, x: Tensor<3>, before: Tensor<3>) -> Tensor<3> {
        let seen = Self::features(x, before, self.eps);
        // A threshold is compared with it: nothing is rounded.
        self.linear.forward(seen, MatmulPrecision::F32)
    }

    /// What a gate sees of states, `[batch, seq, dim + 1]`: `(x - mean) / √(variance + eps)`, and
    /// `‖x - before‖ / ‖x‖`.
    pub fn features(x: Tensor<3>, before: Tensor<3>, eps: f32) -> Tensor<3> {
        let (x, before) = (x.cast(FloatDType::F32), before.cast(FloatDType::F32));
        let norm = |x: Tensor<3>| x.powf_scalar(2.0).sum_dim(2).sqrt();
        let moved = norm(x.clone() - before) / (norm(x.clone()) + eps);
        let centred = x.clone() - x.mean_dim(2);
        let variance = centred.clone().powf_scalar(2.0).mean_dim(2);
        Tensor::cat(vec![centred / (variance + eps).sqrt(), moved], 2)
    }
}
