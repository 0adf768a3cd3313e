//! What all families are made of: blocks, and the routers and gates that say how often to apply them.

use std::ops::Range;

use mor_config::{Architecture, ModelConfig};

use super::{Linear, Norm};

/// Where the layer norms of a block stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormOrder {
    /// `x = x + f(norm(x))`
    Pre,
    /// `x = norm(x + f(x))`
    Post,
}

/// Attention and feed-forward, each with its residual and its layer norm.
pub(crate) struct Block<M> {
    /// Query, key and value projections, one below the other: `[3 dim, dim]`.
    pub(crate) qkv: Linear<M>,
    pub(crate) attention_output: Linear<M>,
    pub(crate) norm1: Norm,
    pub(crate) linear1: Linear<M>,
    pub(crate) linear2: Linear<M>,
    pub(crate) norm2: Norm,
}

/// Classifies pooled inputs into numbers of steps.
pub(crate) struct Router<M> {
    /// Followed by tanh; the conversational model's only.
    pub(crate) pooler: Option<Linear<M>>,
    /// Followed by GELU.
    pub(crate) hidden: Linear<M>,
    /// One row a class.
    pub(crate) output: Linear<M>,
}

/// Says, by its own state, whether a position of a recursive model takes another loop.
pub(crate) struct Gate {
    /// Of the normalised state, `[dim]`.
    pub(crate) weight: Vec<f32>,
    /// Of how far the last loop moved it.
    pub(crate) moved: f32,
    pub(crate) bias: f32,
}

/// Which layers recur together, each group as often as its depth says: the recursive model's core; in all others each
/// layer by itself.
pub(crate) fn groups(config: &ModelConfig, layers: usize) -> Vec<Range<usize>> {
    let core = match config.architecture {
        Architecture::Recursive => {
            config.num_prelude_layers..config.num_prelude_layers + config.num_core_layers
        }
        Architecture::Technical | Architecture::Conversational => 0..0,
    };
    let alone = |layers: Range<usize>| layers.map(|layer| layer..layer + 1);
    let whole = std::iter::once(core.clone()).filter(|core| !core.is_empty());
    alone(0..core.start)
        .chain(whole)
        .chain(alone(core.end..layers))
        .collect()
}

/// Most steps that a layer takes, each of which has keys and values of its own. `fixed` is the depth of layers that recur,
/// where routers do not decide.
pub(crate) fn most_steps(config: &ModelConfig, recurs: bool, fixed: Option<usize>) -> usize {
    match recurs {
        true => fixed.unwrap_or(config.routing.max_steps),
        false => 1,
    }
}

/// A block and how often it is applied.
pub(crate) struct Layer<M> {
    pub(crate) block: Block<M>,
    /// Whether it is applied a routed, configured or forced number of times, and not exactly once.
    pub(crate) recurs: bool,
    /// Decides how often, unless depth is fixed.
    pub(crate) router: Option<Router<M>>,
    /// What a step's attention reads its input through; the technical model's only.
    pub(crate) step_projections: Vec<Linear<M>>,
}
