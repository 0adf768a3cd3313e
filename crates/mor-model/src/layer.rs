//! A recursive layer of the technical model: the same attention and feed-forward, as many times as its depth says.

use burn::module::Module;
use burn::tensor::{Bool, Tensor, TensorData};
use mor_config::HaltedRows;

use crate::mode::Mode;
use crate::ops;
use crate::recursion::{Seen, recur, straight_through};
use crate::{Attention, FeedForward, LayerNorm, Linear, Router};

/// A post-LN layer with a projection before each of its steps.
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
    /// What happens to rows that have halted; positions with depths of their own always freeze.
    #[module(skip)]
    pub halted_rows: HaltedRows,
    /// Dropout probability.
    pub dropout: f32,
}

impl Layer {
    /// Applies `steps[row]` steps to each row of `x: [batch, seq, dim]`, or, where there are `batch · seq` numbers,
    /// as many to each position as its own says. `key_mask: [batch, seq]` is true at the keys that may be seen.
    /// `survival: [batch, 1 or seq, max_steps]` lets the router's probability of taking a step have a gradient.
    pub fn forward(
        &self,
        x: Tensor<3>,
        key_mask: Option<&Tensor<2, Bool>>,
        steps: &[usize],
        survival: Option<&Tensor<3>>,
        mode: Mode,
    ) -> Tensor<3> {
        match self.halted_rows {
            HaltedRows::Freeze => recur(x, key_mask, steps, survival, |step, seen| {
                match self.step_projections.get(step) {
                    Some(projection) => self.step(seen, projection, None, mode),
                    None => seen.x,
                }
            }),
            HaltedRows::Renormalize => self.renormalize(x, key_mask, steps, survival, mode),
        }
    }

    /// As the original: rows that have halted still pass both norms of each step of the deepest row.
    fn renormalize(
        &self,
        mut x: Tensor<3>,
        key_mask: Option<&Tensor<2, Bool>>,
        steps: &[usize],
        survival: Option<&Tensor<3>>,
        mode: Mode,
    ) -> Tensor<3> {
        let deepest = steps.iter().copied().max().unwrap_or(0);
        for (step, projection) in self.step_projections.iter().take(deepest).enumerate() {
            let gate: Vec<f32> = steps
                .iter()
                .map(|depth| if step < *depth { 1.0 } else { 0.0 })
                .collect();
            let gate = gate.contains(&0.0).then(|| {
                let gate = TensorData::new(gate, [steps.len(), 1, 1]);
                Tensor::<3>::from_data(gate, (&x.device(), x.dtype()))
            });
            let gate = match survival {
                // Rows that have halted are computed anyway, so they learn too whether to go on.
                Some(survival) => {
                    let open = straight_through(survival, step);
                    Some(match gate {
                        Some(gate) => gate + open - 1.0,
                        None => open,
                    })
                }
                None => gate,
            };
            let seen = Seen {
                x,
                key_mask: key_mask.cloned(),
                positions: None,
            };
            x = self.step(seen, projection, gate, mode);
        }
        x
    }

    /// One step. `gate: [batch, 1, 1]` multiplies what a row adds to itself.
    fn step(
        &self,
        Seen {
            x,
            key_mask,
            positions,
        }: Seen,
        projection: &Linear,
        gate: Option<Tensor<3>>,
        mode: Mode,
    ) -> Tensor<3> {
        let gated = |branch: Tensor<3>| {
            let branch = ops::dropout(branch, self.dropout, mode.training);
            match &gate {
                Some(gate) => branch * gate.clone(),
                None => branch,
            }
        };
        let attended = self.attention.forward(
            projection.forward(x.clone(), mode.matmul),
            key_mask.as_ref(),
            positions.as_ref(),
            mode.matmul,
        );
        let x = self.norm1.forward_residual(x, gated(attended));
        let fed = self.feedforward.forward(x.clone(), mode.matmul);
        self.norm2.forward_residual(x, gated(fed))
    }
}
