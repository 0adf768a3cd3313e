//! What lies between embedding and final norm: layers that recur one by one, or blocks and a shared one that recurs.

use burn::module::Module;
use burn::tensor::{Bool, Tensor};

use crate::mode::Mode;
use crate::recursion::recur;
use crate::recursive::Loops;
use crate::{Block, Layer, Recursive, Router};

/// The layers of a model.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a model has one")]
pub enum Body {
    /// Each layer recurs as its own router decides.
    Technical(Vec<Layer>),
    /// Blocks that run once, then one that recurs.
    Conversational(Conversational),
    /// Blocks that run once, a core that loops as gates decide, and blocks that run once.
    Recursive(Recursive),
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
    /// For each layer with a gradient to its router, the probabilities of its steps, `[batch, 1 or seq, max_steps]`.
    pub(crate) survival: Vec<Tensor<3>>,
}

/// How the layers run.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// `[batch, seq]`, true at the keys that may be seen, which are also the positions that are not pads.
    pub(crate) key_mask: Option<&'a Tensor<2, Bool>>,
    /// The depths, `[layers][batch]`, or in a recursive model `[1][batch · seq]`, unless routers decide.
    pub(crate) fixed: Option<&'a [Vec<usize>]>,
    /// What the gates of a recursive model must exceed for a position to go on.
    pub(crate) gate_threshold: f32,
    /// Whether the routers of a technical model get a gradient.
    pub(crate) straight_through: bool,
    pub(crate) mode: Mode,
}

impl Body {
    /// Runs the layers on `x: [batch, seq, dim]`.
    pub(crate) fn forward(&self, x: Tensor<3>, run: Run) -> Routed {
        let Run { key_mask, mode, .. } = run;
        let mut state = Routed {
            x,
            steps: Vec::new(),
            router_logits: Vec::new(),
            survival: Vec::new(),
        };
        match self {
            Self::Technical(layers) => {
                for layer in layers {
                    let steps = state.route(layer.router.as_ref(), run);
                    let survival = match (&layer.router, state.router_logits.last()) {
                        (Some(router), Some(logits)) if run.straight_through => {
                            Some(router.survival(logits.clone(), layer.step_projections.len()))
                        }
                        _ => None,
                    };
                    state.x = layer.forward(state.x, key_mask, &steps, survival.as_ref(), mode);
                    state.steps.push(steps);
                    state.survival.extend(survival);
                }
            }
            Self::Conversational(body) => {
                for block in &body.layers {
                    state.x = block.forward(state.x, key_mask, None, mode);
                }
                let steps = state.route(body.router.as_ref(), run);
                state.x = recur(state.x, key_mask, &steps, None, |_, seen| {
                    let (keys, positions) = (seen.key_mask.as_ref(), seen.positions.as_ref());
                    body.shared.forward(seen.x, keys, positions, mode)
                });
                state.steps.push(steps);
            }
            Self::Recursive(body) => {
                let [batch, seq, _] = state.x.dims();
                let loops = match run.fixed.and_then(<[_]>::first) {
                    // A depth for each row.
                    Some(depths) if depths.len() == batch => {
                        let depths = depths
                            .iter()
                            .flat_map(|depth| std::iter::repeat_n(*depth, seq));
                        Loops::Given(depths.collect())
                    }
                    Some(depths) => Loops::Given(depths.clone()),
                    None => Loops::Gated(run.gate_threshold),
                };
                let (x, steps) = body.forward(state.x, key_mask, loops, mode);
                state.x = x;
                state.steps.push(steps);
            }
        }
        state
    }
}

impl Routed {
    /// How many steps come next: a fixed number, or what the router makes of `x`.
    fn route(&mut self, router: Option<&Router>, run: Run) -> Vec<usize> {
        match (run.fixed, router) {
            (None, Some(router)) => {
                let routing = router.forward(
                    self.x.clone(),
                    run.key_mask,
                    run.mode,
                    run.mode.training && run.straight_through,
                );
                self.router_logits.push(routing.logits);
                routing.steps
            }
            // Where no depth is fixed, the configuration asks for routers.
            (fixed, _) => {
                let [batch, ..] = self.x.dims();
                let depths = fixed.and_then(|fixed| fixed.get(self.steps.len()));
                depths.map_or_else(|| vec![0; batch], Vec::clone)
            }
        }
    }
}
