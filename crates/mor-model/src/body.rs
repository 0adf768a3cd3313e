//! What lies between embedding and final norm: layers that recur one by one, or blocks and a shared one that recurs.

use burn::module::Module;
use burn::tensor::{Bool, Tensor};

use crate::recursion::recur;
use crate::{Block, Layer, Router};

/// The layers of a model.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a model has one")]
pub enum Body {
    /// Each layer recurs as its own router decides.
    Technical(Vec<Layer>),
    /// Blocks that run once, then one that recurs.
    Conversational(Conversational),
}

/// The layers of a conversational model.
#[derive(Module, Debug)]
pub struct Conversational {
    /// Blocks that run once, first to last.
    pub layers: Vec<Block>,
    /// Decides from their output how often the shared block is applied; absent where that is fixed.
    pub router: Option<Router>,
    /// The block that recurs.
    pub shared: Block,
}

/// What the layers give.
pub(crate) struct Routed {
    /// `[batch, seq, dim]`.
    pub(crate) x: Tensor<3>,
    /// As in [`crate::Output`].
    pub(crate) steps: Vec<Vec<usize>>,
    /// As in [`crate::Output`].
    pub(crate) router_logits: Vec<Tensor<3>>,
}

impl Body {
    /// Runs the layers on `x: [batch, seq, dim]`, at a fixed depth or as the routers decide. `key_mask: [batch,
    /// seq]` is true at the keys that may be seen, which are also the positions that are not pads.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        key_mask: Option<&Tensor<2, Bool>>,
        fixed: Option<usize>,
        training: bool,
    ) -> Routed {
        let mut state = Routed {
            x,
            steps: Vec::new(),
            router_logits: Vec::new(),
        };
        match self {
            Self::Technical(layers) => {
                for layer in layers {
                    let steps = state.route(layer.router.as_ref(), key_mask, fixed, training);
                    state.x = layer.forward(state.x, key_mask, &steps, training);
                    state.steps.push(steps);
                }
            }
            Self::Conversational(body) => {
                for block in &body.layers {
                    state.x = block.forward(state.x, key_mask, training);
                }
                let steps = state.route(body.router.as_ref(), key_mask, fixed, training);
                state.x = recur(state.x, key_mask, &steps, |_, x, key_mask| {
                    body.shared.forward(x, key_mask.as_ref(), training)
                });
                state.steps.push(steps);
            }
        }
        state
    }
}

impl Routed {
    /// How many steps come next: `fixed`, or what the router makes of `x`.
    fn route(
        &mut self,
        router: Option<&Router>,
        key_mask: Option<&Tensor<2, Bool>>,
        fixed: Option<usize>,
        training: bool,
    ) -> Vec<usize> {
        match (fixed, router) {
            (None, Some(router)) => {
                let routing = router.forward(self.x.clone(), key_mask, training);
                self.router_logits.push(routing.logits);
                routing.steps
            }
            // Where no depth is fixed, the configuration asks for routers.
            (fixed, _) => {
                let [batch, ..] = self.x.dims();
                vec![fixed.unwrap_or(0); batch]
            }
        }
    }
}
