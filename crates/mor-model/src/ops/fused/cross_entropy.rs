//! The output head and the cross-entropy in one pass: the logits of a few rows at a time are turned
//! into loss and gradients while they are in the cache, so the forward already does the backward's
//! work, and the backward only hands the gradients over.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use mor_kernels::{CrossEntropyShape, linear_cross_entropy, linear_cross_entropy_forward};

use super::buffers::{buffer, contiguous, dims, floats, ids, rows_and_width, scalar, tensor};
use super::pool::Buffer;
use super::register;

fn sizes(hidden: &FlexTensor, weight: &FlexTensor) -> CrossEntropyShape {
    let (rows, dim) = rows_and_width(&dims(hidden));
    let (vocab, _) = rows_and_width(&dims(weight));
    CrossEntropyShape { rows, dim, vocab }
}

/// Mean loss, `[1]`, without gradients.
pub(super) fn mean(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    ignore: i64,
) -> FlexTensor {
    let (hidden, weight) = (contiguous(hidden), contiguous(weight));
    let shape = sizes(&hidden, &weight);
    let loss = linear_cross_entropy_forward(
        shape,
        floats(&hidden),
        floats(&weight),
        &ids(&targets),
        ignore,
        None,
    );
    scalar(loss.mean() as f32)
}

/// Loss of each row, `[rows]`.
pub(super) fn losses(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    ignore: i64,
) -> FlexTensor {
    let (hidden, weight) = (contiguous(hidden), contiguous(weight));
    let shape = sizes(&hidden, &weight);
    let mut losses = buffer(shape.rows);
    linear_cross_entropy_forward(
        shape,
        floats(&hidden),
        floats(&weight),
        &ids(&targets),
        ignore,
        Some(&mut losses),
    );
    tensor(losses, &[shape.rows])
}

/// Mean loss, `[1]`, and its gradients with respect to `hidden` and `weight`.
pub(super) fn mean_and_gradients(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    ignore: i64,
) -> (FlexTensor, (FlexTensor, FlexTensor)) {
    let (hidden, weight) = (contiguous(hidden), contiguous(weight));
    let shape = sizes(&hidden, &weight);
    let targets = ids(&targets);
    let known = |id: &&i64| **id != ignore && (0..shape.vocab as i64).contains(*id);
    let count = targets.iter().filter(known).count().max(1);
    let mut d_hidden = buffer(shape.rows * shape.dim);
    let mut d_weight = Buffer::zeroed(shape.vocab * shape.dim);
    let loss = linear_cross_entropy(
        shape,
        floats(&hidden),
        floats(&weight),
        &targets,
        ignore,
        1.0 / count as f32,
        &mut d_hidden,
        &mut d_weight,
        None,
    );
    let gradients = (
        tensor(d_hidden, &dims(&hidden)),
        tensor(d_weight, &dims(&weight)),
    );
    (scalar(loss.mean() as f32), gradients)
}

/// Parents: hidden states and weight, whose gradients are already there.
#[derive(Debug)]
pub(super) struct CrossEntropyBackward;

impl Backward<Flex, 2> for CrossEntropyBackward {
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let outer = contiguous(grads.consume::<Flex>(&ops.node));
        let outer = floats(&outer).first().copied().unwrap_or(1.0);
        let (d_hidden, d_weight) = &ops.state;
        register(&ops, grads, 0, || scaled(d_hidden, outer));
        register(&ops, grads, 1, || scaled(d_weight, outer));
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
