//! What both families are made of: blocks, and the routers that say how often to apply them.

use super::{Linear, Norm};
use crate::cpu::matrix::Matrix;

/// Where the layer norms of a block stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormOrder {
    /// `x = x + f(norm(x))`
    Pre,
    /// `x = norm(x + f(x))`
    Post,
}

/// Attention and feed-forward, each with its residual and its layer norm.
pub(crate) struct Block<M = Matrix> {
    /// Query, key and value projections, one below the other: `[3 dim, dim]`.
    pub(crate) qkv: Linear<M>,
    pub(crate) attention_output: Linear<M>,
    pub(crate) norm1: Norm,
    pub(crate) linear1: Linear<M>,
    pub(crate) linear2: Linear<M>,
    pub(crate) norm2: Norm,
}

impl Block {
    /// Bytes of its matrices.
    fn bytes(&self) -> usize {
        let Self {
            qkv,
            attention_output,
            linear1,
            linear2,
            ..
        } = self;
        let all = [qkv, attention_output, linear1, linear2];
        all.iter().map(|linear| linear.matrix.bytes()).sum()
    }
}

/// Classifies pooled inputs into numbers of steps.
pub(crate) struct Router<M = Matrix> {
    /// Followed by tanh; the conversational model's only.
    pub(crate) pooler: Option<Linear<M>>,
    /// Followed by GELU.
    pub(crate) hidden: Linear<M>,
    /// One row a class.
    pub(crate) output: Linear<M>,
}

impl Router {
    /// Bytes of its matrices.
    pub(super) fn bytes(&self) -> usize {
        let pooler = self
            .pooler
            .as_ref()
            .map_or(0, |linear| linear.matrix.bytes());
        pooler + self.hidden.matrix.bytes() + self.output.matrix.bytes()
    }
}

/// A block and how often it is applied.
pub(crate) struct Layer<M = Matrix> {
    pub(crate) block: Block<M>,
    /// Whether it is applied a routed, configured or forced number of times, and not exactly once.
    pub(crate) recurs: bool,
    /// Decides how often, unless depth is fixed.
    pub(crate) router: Option<Router<M>>,
    /// What a step's attention reads its input through; the technical model's only.
    pub(crate) step_projections: Vec<Linear<M>>,
}

impl Layer {
    /// Bytes of the matrices that `steps` steps read.
    pub(super) fn bytes_read(&self, steps: usize) -> usize {
        let projections = self.step_projections.iter().take(steps);
        let projections: usize = projections.map(|linear| linear.matrix.bytes()).sum();
        steps * self.block.bytes() + projections
    }

    /// Bytes of all its matrices.
    pub(super) fn bytes(&self) -> usize {
        let projections = self.step_projections.iter();
        let projections: usize = projections.map(|linear| linear.matrix.bytes()).sum();
        self.block.bytes() + projections + self.router.as_ref().map_or(0, Router::bytes)
    }
}
