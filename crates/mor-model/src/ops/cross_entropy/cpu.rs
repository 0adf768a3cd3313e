//! The output head and the cross-entropy in one pass: the logits of a few rows at a time are turned
//! into loss and gradients while they are in the cache, so the forward already does the backward's
//! work, and the backward only hands the gradients over.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use mor_kernels::{
    CrossEntropyShape, MatmulPrecision, linear_cross_entropy, linear_cross_entropy_forward,
};

use super::shared_losses::SharedLosses;
use crate::ops::backend::cpu::{
    Tracked, buffer, contiguous, dims, floats, ids, register, rows_and_width, scalar, tensor,
};
use crate::ops::backend::pool::Buffer;

/// What Burn dispatches; arguments and shapes as in [`super::linear_cross_entropy`].
#[backend_extension(Autodiff, Flex)]
pub(super) trait CpuCrossEntropy: Backend {
    fn cpu_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        ignore: i64,
        losses: SharedLosses,
        matmul: MatmulPrecision,
    ) -> FloatTensor<Self>;
}

impl CpuCrossEntropy for Flex {
    fn cpu_cross_entropy(
        hidden: FlexTensor,
        weight: FlexTensor,
        targets: FlexTensor,
        ignore: i64,
        losses: SharedLosses,
        matmul: MatmulPrecision,
    ) -> FlexTensor {
        mean(matmul, hidden, weight, targets, ignore, &losses)
    }
}

impl<C: CheckpointStrategy> CpuCrossEntropy for Autodiff<Flex, C> {
    fn cpu_cross_entropy(
        hidden: Tracked,
        weight: Tracked,
        targets: FlexTensor,
        ignore: i64,
        losses: SharedLosses,
        matmul: MatmulPrecision,
    ) -> Tracked {
        let (hidden, hidden_node) = hidden.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let nodes = [hidden_node, weight_node];
        let prepared = CrossEntropyBackward.prepare::<C>(nodes).compute_bound();
        match prepared.stateful() {
            OpsKind::Tracked(prepared) => {
                let (loss, gradients) =
                    mean_and_gradients(matmul, hidden, weight, targets, ignore, &losses);
                prepared.finish(gradients, loss)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(mean(matmul, hidden, weight, targets, ignore, &losses))
            }
        }
    }
}

/// The rows whose targets count, close together: pads and what is not to be learned cost nothing.
struct Counted {
    shape: CrossEntropyShape,
    /// Their places among all rows.
    places: Vec<usize>,
    targets: Vec<i64>,
    /// `[places, dim]`.
    hidden: Buffer,
    /// Rows in all.
    rows: usize,
}

impl Counted {
    fn of(hidden: &FlexTensor, weight: &FlexTensor, targets: &FlexTensor, ignore: i64) -> Self {
        let (rows, dim) = rows_and_width(&dims(hidden));
        let (vocab, _) = rows_and_width(&dims(weight));
        let targets = ids(targets);
        let known = |id: i64| id != ignore && (0..vocab as i64).contains(&id);
        let places: Vec<usize> = (0..rows).filter(|row| known(targets[*row])).collect();
        let mut close = buffer(places.len() * dim);
        let from = floats(hidden);
        for (to, place) in close.chunks_exact_mut(dim.max(1)).zip(&places) {
            to.copy_from_slice(&from[place * dim..][..dim]);
        }
        Self {
            shape: CrossEntropyShape {
                rows: places.len(),
                dim,
                vocab,
            },
            targets: places.iter().map(|place| targets[*place]).collect(),
            places,
            hidden: close,
            rows,
        }
    }

    /// Puts one number for each counted row into its place among all, zeros elsewhere.
    fn spread(&self, losses: &[f32]) -> Vec<f32> {
        let mut all = vec![0.0; self.rows];
        for (place, loss) in self.places.iter().zip(losses) {
            all[*place] = *loss;
        }
        all
    }

    /// The same for rows of the hidden states' width.
    fn spread_rows(&self, rows: &[f32]) -> Buffer {
        let dim = self.shape.dim;
        let mut all = Buffer::zeroed(self.rows * dim);
        for (row, place) in rows.chunks_exact(dim.max(1)).zip(&self.places) {
            all[place * dim..][..dim].copy_from_slice(row);
        }
        all
    }
}

/// Mean loss, `[1]`, without gradients; leaves the rows' losses in `losses`.
fn mean(
    matmul: MatmulPrecision,
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    ignore: i64,
    losses: &SharedLosses,
) -> FlexTensor {
    let (hidden, weight) = (contiguous(hidden), contiguous(weight));
    let counted = Counted::of(&hidden, &weight, &targets, ignore);
    let mut rows = vec![0.0; counted.shape.rows];
    let loss = linear_cross_entropy_forward(
        matmul,
        counted.shape,
        &counted.hidden,
        floats(&weight),
        &counted.targets,
        ignore,
        Some(&mut rows),
    );
    losses.set(counted.spread(&rows));
    scalar(loss.mean() as f32)
}

/// Gradients with respect to `hidden` and `weight` of the loss times a factor, and what makes them those of the mean.
#[derive(Clone, Debug)]
struct LossGradients {
    hidden: FlexTensor,
    weight: FlexTensor,
    /// The mean's gradients are these times this.
    factor: f32,
}

/// As [`mean`], with gradients.
fn mean_and_gradients(
    matmul: MatmulPrecision,
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    ignore: i64,
    losses: &SharedLosses,
) -> (FlexTensor, LossGradients) {
    let (hidden, weight) = (contiguous(hidden), contiguous(weight));
    let counted = Counted::of(&hidden, &weight, &targets, ignore);
    let shape = counted.shape;
    let share = 1.0 / shape.rows.max(1) as f32;
    // The gradient of a logit over thousands of rows would leave the range of 16-bit floats: there it is divided last.
    let (scale, factor) = match matmul {
        MatmulPrecision::F16 => (1.0, share),
        _ => (share, 1.0),
    };
    let mut d_hidden = buffer(shape.rows * shape.dim);
    let mut d_weight = Buffer::zeroed(shape.vocab * shape.dim);
    let mut rows = vec![0.0; shape.rows];
    let loss = linear_cross_entropy(
        matmul,
        shape,
        &counted.hidden,
        floats(&weight),
        &counted.targets,
        ignore,
        scale,
        &mut d_hidden,
        &mut d_weight,
        Some(&mut rows),
    );
    losses.set(counted.spread(&rows));
    let gradients = LossGradients {
        hidden: tensor(counted.spread_rows(&d_hidden), &dims(&hidden)),
        weight: tensor(d_weight, &dims(&weight)),
        factor,
    };
    (scalar(loss.mean() as f32), gradients)
}

/// Parents: hidden states and weight, whose gradients are already there.
#[derive(Debug)]
struct CrossEntropyBackward;

impl Backward<Flex, 2> for CrossEntropyBackward {
    type State = LossGradients;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let outer = contiguous(grads.consume::<Flex>(&ops.node));
        let outer = floats(&outer).first().copied().unwrap_or(1.0);
        let by = outer * ops.state.factor;
        register(&ops, grads, 0, || scaled(&ops.state.hidden, by));
        register(&ops, grads, 1, || scaled(&ops.state.weight, by));
    }
}

/// `gradient · by`; usually by one, since the loss is usually what is differentiated.
fn scaled(gradient: &FlexTensor, by: f32) -> FlexTensor {
    if by == 1.0 {
        return gradient.clone();
    }
    let mut values = buffer(floats(gradient).len());
    for (value, gradient) in values.iter_mut().zip(floats(gradient)) {
        *value = gradient * by;
    }
    tensor(values, &dims(gradient))
}
