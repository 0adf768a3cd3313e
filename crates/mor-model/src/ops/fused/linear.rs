//! Linear layers, with and without a GELU behind.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use mor_kernels::{
    LinearShape, MatmulPrecision, gelu_backward, linear_backward_bias, linear_backward_input,
    linear_backward_weight, linear_forward, linear_gelu_forward,
};

use crate::ops::backend::cpu::register;
use crate::ops::backend::cpu::{buffer, contiguous, dims, floats, rows_and_width, tensor};

/// What the backward needs: the input and the weight.
type Saved = (FlexTensor, FlexTensor);

fn sizes(x: &FlexTensor, weight: &FlexTensor) -> (LinearShape, Vec<usize>) {
    let mut out_dims = dims(x);
    let (rows, inputs) = rows_and_width(&out_dims);
    let (outputs, _) = rows_and_width(&dims(weight));
    if let Some(last) = out_dims.last_mut() {
        *last = outputs;
    }
    let shape = LinearShape {
        rows,
        inputs,
        outputs,
    };
    (shape, out_dims)
}

pub(super) fn forward(
    matmul: MatmulPrecision,
    x: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
) -> (FlexTensor, Saved) {
    let (x, weight, bias) = (contiguous(x), contiguous(weight), bias.map(contiguous));
    let (shape, out_dims) = sizes(&x, &weight);
    let mut y = buffer(shape.rows * shape.outputs);
    let bias = bias.as_ref().map(floats);
    linear_forward(matmul, shape, floats(&x), floats(&weight), bias, &mut y);
    (tensor(y, &out_dims), (x, weight))
}

pub(super) fn forward_gelu(
    matmul: MatmulPrecision,
    x: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
) -> (FlexTensor, (Saved, FlexTensor)) {
    let (x, weight, bias) = (contiguous(x), contiguous(weight), bias.map(contiguous));
    let (shape, out_dims) = sizes(&x, &weight);
    let mut pre = buffer(shape.rows * shape.outputs);
    let mut y = buffer(shape.rows * shape.outputs);
    let bias = bias.as_ref().map(floats);
    linear_gelu_forward(
        matmul,
        shape,
        floats(&x),
        floats(&weight),
        bias,
        &mut pre,
        &mut y,
    );
    (tensor(y, &out_dims), ((x, weight), tensor(pre, &out_dims)))
}

/// Registers the gradients of input, weight and bias, given that of the product.
fn backward<S, const N: usize>(
    matmul: MatmulPrecision,
    ops: &Ops<S, N>,
    grads: &mut Gradients,
    (x, weight): &Saved,
    dy: &FlexTensor,
) {
    let (shape, _) = sizes(x, weight);
    register(ops, grads, 0, || {
        let mut dx = buffer(shape.rows * shape.inputs);
        linear_backward_input(matmul, shape, floats(dy), floats(weight), &mut dx);
        tensor(dx, &dims(x))
    });
    register(ops, grads, 1, || {
        let mut dw = buffer(shape.outputs * shape.inputs);
        linear_backward_weight(matmul, shape, floats(dy), floats(x), &mut dw);
        tensor(dw, &[shape.outputs, shape.inputs])
    });
    register(ops, grads, 2, || {
        let mut db = buffer(shape.outputs);
        linear_backward_bias(floats(dy), &mut db);
        tensor(db, &[shape.outputs])
    });
}

/// Parents: input, weight, and bias where there is one. Its products have the precision of the forward one.
#[derive(Debug)]
pub(super) struct LinearBackward(pub(super) MatmulPrecision);

impl<const N: usize> Backward<Flex, N> for LinearBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = contiguous(grads.consume::<Flex>(&ops.node));
        backward(self.0, &ops, grads, &ops.state, &dy);
    }
}

/// Parents as of [`LinearBackward`]; also keeps the product before the GELU.
#[derive(Debug)]
pub(super) struct LinearGeluBackward(pub(super) MatmulPrecision);

impl<const N: usize> Backward<Flex, N> for LinearGeluBackward {
    type State = (Saved, FlexTensor);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = contiguous(grads.consume::<Flex>(&ops.node));
        let (saved, pre) = &ops.state;
        let mut d_pre = buffer(floats(pre).len());
        gelu_backward(floats(pre), floats(&dy), &mut d_pre);
        let d_pre = tensor(d_pre, &dims(pre));
        backward(self.0, &ops, grads, saved, &d_pre);
    }
}
