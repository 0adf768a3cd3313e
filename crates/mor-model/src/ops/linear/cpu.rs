//! Linear layers over the kernels of `mor-kernels`, recorded for their backward pass.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use mor_kernels::{
    LinearShape, MatmulPrecision, linear_backward_bias, linear_backward_input,
    linear_backward_weight, linear_forward,
};

use crate::ops::backend::cpu::{
    Tracked, buffer, contiguous, dims, floats, register, rows_and_width, tensor,
};
use crate::ops::backend::operands::MaybeFloat;
use crate::ops::backend::record::record;

/// What Burn dispatches; arguments and shapes as in [`super::linear`].
#[backend_extension(Autodiff, Flex)]
pub(super) trait CpuLinear: Backend {
    fn cpu_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> FloatTensor<Self>;
}

impl CpuLinear for Flex {
    fn cpu_linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> FlexTensor {
        forward(matmul, x, weight, bias.given()).0
    }
}

impl<C: CheckpointStrategy> CpuLinear for Autodiff<Flex, C> {
    fn cpu_linear(
        x: Tracked,
        weight: Tracked,
        bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> Tracked {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        match bias.given().map(Tracked::into_parts) {
            Some((bias, bias_node)) => record::<Flex, C, _, _, 3>(
                LinearBackward(matmul),
                [x_node, weight_node, bias_node],
                || forward(matmul, x, weight, Some(bias)),
            ),
            None => {
                record::<Flex, C, _, _, 2>(LinearBackward(matmul), [x_node, weight_node], || {
                    forward(matmul, x, weight, None)
                })
            }
        }
    }
}

/// What the backward needs: the input and the weight.
pub(in crate::ops) type Saved = (FlexTensor, FlexTensor);

/// The sizes of the product, and the shape of the output.
pub(in crate::ops) fn sizes(x: &FlexTensor, weight: &FlexTensor) -> (LinearShape, Vec<usize>) {
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

fn forward(
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

/// Registers the gradients of input, weight and bias, given that of the product.
pub(in crate::ops) fn backward<S, const N: usize>(
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
struct LinearBackward(MatmulPrecision);

impl<const N: usize> Backward<Flex, N> for LinearBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = contiguous(grads.consume::<Flex>(&ops.node));
        backward(self.0, &ops, grads, &ops.state, &dy);
    }
}
