//! Recording operations whose backward pass is written by hand.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

/// Runs `forward`, which gives the output and what `backward` needs, and records the operation
/// when one of its inputs is tracked.
pub(crate) fn record<B, C, BO, S, const N: usize>(
    backward: BO,
    nodes: [NodeGuard; N],
    forward: impl FnOnce() -> (FloatTensor<B>, S),
) -> FloatTensor<Autodiff<B>>
where
    B: Backend,
    C: CheckpointStrategy,
    S: Clone + Send + std::fmt::Debug + 'static,
    BO: Backward<B, N, State = S>,
{
    match backward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let (output, state) = forward();
            prepared.finish(state, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(forward().0),
    }
}

/// Adds `gradient()` to the gradient of the operation's input number `parent`, if that is tracked.
pub(crate) fn register<B: Backend, S, const N: usize>(
    ops: &Ops<S, N>,
    grads: &mut Gradients,
    parent: usize,
    gradient: impl FnOnce() -> FloatTensor<B>,
) {
    if let Some(Some(node)) = ops.parents.get(parent) {
        grads.register::<B>(node.id, gradient());
    }
}
