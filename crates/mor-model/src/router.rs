//! The layer's router: how many steps a row takes.

use burn::module::Module;
use burn::tensor::{Tensor, activation};

use crate::Linear;

/// What a router decided for a batch.
#[derive(Debug, Clone)]
pub struct Routing {
    /// Probability of each depth, `[batch, max_steps + 1]`.
    pub probs: Tensor<2>,
    /// The most probable depth of each row; the smaller one where two tie.
    pub steps: Vec<usize>,
}

/// `softmax(classes(gelu(hidden(mean of x))))`, whose argmax is the depth.
///
/// The choice is a hard argmax, so no gradient reaches a router: its parameters stay at their
/// values in training, as in the original.
#[derive(Module, Debug)]
pub struct Router {
    /// `[router_hidden, dim]`; `complexity_classifier.0` in the weights file.
    pub hidden: Linear,
    /// `[max_steps + 1, router_hidden]`; `complexity_classifier.3` in the weights file.
    pub classes: Linear,
}

impl Router {
    /// Decides for `x: [batch, seq, dim]`, pooled over all positions, pads included.
    pub fn forward(&self, x: Tensor<3>) -> Routing {
        let pooled = x.without_autodiff().mean_dim(1);
        let hidden = activation::gelu(self.untracked(&self.hidden, pooled));
        let logits: Tensor<2> = self.untracked(&self.classes, hidden).squeeze_dim(1);
        let probs = activation::softmax(logits, 1);
        let [_, classes] = probs.dims();
        let values = probs.to_data().convert::<f32>();
        let steps = values
            .as_slice::<f32>()
            .unwrap_or_default()
            .chunks_exact(classes)
            .map(argmax)
            .collect();
        Routing { probs, steps }
    }

    fn untracked(&self, layer: &Linear, x: Tensor<3>) -> Tensor<3> {
        let weight = layer.weight.val().without_autodiff();
        let bias = layer
            .bias
            .as_ref()
            .map(|bias| bias.val().without_autodiff());
        crate::ops::linear(x, weight, bias)
    }
}

/// Index of the largest value; the first of several.
fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (at, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = at;
        }
    }
    best
}
