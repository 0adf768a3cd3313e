//! A recursive layer: the same attention and feed-forward, applied as many times as the depth says.

use burn::module::Module;
use burn::tensor::{Bool, Tensor, TensorData};
use mor_config::HaltedRows;

use crate::ops;
use crate::{Attention, FeedForward, LayerNorm, Linear, Router};

/// A layer of the technical model.
#[derive(Module, Debug)]
pub struct Layer {
    /// Decides the depth; absent where it is fixed.
    pub router: Option<Router>,
    /// One projection a step, applied before the attention of that step.
    pub step_projections: Vec<Linear>,
    /// Self-attention, shared by all steps.
    pub attention: Attention,
    /// After the attention.
    pub norm1: LayerNorm,
    /// Feed-forward network, shared by all steps.
    pub feedforward: FeedForward,
    /// After the feed-forward.
    pub norm2: LayerNorm,
    /// What happens to rows that have halted.
    #[module(skip)]
    pub halted_rows: HaltedRows,
    /// Dropout probability.
    pub dropout: f32,
}

impl Layer {
    /// Applies `steps[row]` steps to each row of `x: [batch, seq, dim]`; the batch loops to the
    /// deepest of them.
    pub fn forward(
        &self,
        mut x: Tensor<3>,
        key_mask: Option<&Tensor<2, Bool>>,
        steps: &[usize],
        training: bool,
    ) -> Tensor<3> {
        let deepest = steps.iter().copied().max().unwrap_or(0);
        for (step, projection) in self.step_projections.iter().take(deepest).enumerate() {
            let active: Vec<bool> = steps.iter().map(|depth| step < *depth).collect();
            x = if active.iter().all(|on| *on) {
                self.step(x, projection, key_mask, None, training)
            } else {
                self.partial_step(x, projection, key_mask, &active, training)
            };
        }
        x
    }

    /// A step in which only some rows of the batch take part.
    fn partial_step(
        &self,
        x: Tensor<3>,
        projection: &Linear,
        key_mask: Option<&Tensor<2, Bool>>,
        active: &[bool],
        training: bool,
    ) -> Tensor<3> {
        let device = x.device();
        match self.halted_rows {
            HaltedRows::Renormalize => {
                let gate: Vec<f32> = active.iter().map(|on| f32::from(u8::from(*on))).collect();
                let gate = TensorData::new(gate, [active.len(), 1, 1]);
                let gate = Tensor::from_data(gate, &device);
                self.step(x, projection, key_mask, Some(gate), training)
            }
            HaltedRows::Freeze => {
                let dims = x.dims();
                let keep = TensorData::new(active.to_vec(), [active.len(), 1, 1]);
                let keep: Tensor<3, Bool> = Tensor::from_data(keep, &device);
                let next = self.step(x.clone(), projection, key_mask, None, training);
                x.mask_where(keep.expand(dims), next)
            }
        }
    }

    /// One step of the whole batch. `gate: [batch, 1, 1]` multiplies what a row adds to itself.
    fn step(
        &self,
        x: Tensor<3>,
        projection: &Linear,
        key_mask: Option<&Tensor<2, Bool>>,
        gate: Option<Tensor<3>>,
        training: bool,
    ) -> Tensor<3> {
        let gated = |branch: Tensor<3>| {
            let branch = ops::dropout(branch, self.dropout, training);
            match &gate {
                Some(gate) => branch * gate.clone(),
                None => branch,
            }
        };
        let attended = self
            .attention
            .forward(projection.forward(x.clone()), key_mask);
        let x = self.norm1.forward_residual(x, gated(attended));
        let fed = self.feedforward.forward(x.clone());
        self.norm2.forward_residual(x, gated(fed))
    }
}
