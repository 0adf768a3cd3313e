//! Linear layers with a GELU behind over the kernels of `mor-kernels`, recorded for their backward pass.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use mor_kernels::{MatmulPrecision, gelu_backward, linear_gelu_forward};

use crate::ops::backend::cpu::{Tracked, buffer, contiguous, dims, floats, tensor};
use crate::ops::backend::operands::MaybeFloat;
use crate::ops::backend::record::record;
use crate::ops::linear::cpu::{self as linear, Saved, sizes};

/// What Burn dispatches; arguments and shapes as in [`super::linear_gelu`].
#[backend_extension(Autodiff, Flex)]
pub(super) trait CpuLinearGelu: Backend {
    fn cpu_linear_gelu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> FloatTensor<Self>;
}

impl CpuLinearGelu for Flex {
    fn cpu_linear_gelu(
        x: FlexTensor,
        weight: FlexTensor,
        bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> FlexTensor {
        forward(matmul, x, weight, bias.given()).0
    }
}

impl<C: CheckpointStrategy> CpuLinearGelu for Autodiff<Flex, C> {
    fn cpu_linear_gelu(
        x: Tracked,
        weight: Tracked,
        bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> Tracked {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        match bias.given().map(Tracked::into_parts) {
            Some((bias, bias_node)) => record::<Flex, C, _, _, 3>(
                LinearGeluBackward(matmul),
                [x_node, weight_node, bias_node],
                || forward(matmul, x, weight, Some(bias)),
            ),
            None => record::<Flex, C, _, _, 2>(
                LinearGeluBackward(matmul),
                [x_node, weight_node],
                || forward(matmul, x, weight, None),
            ),
        }
    }
}

fn forward(
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

/// Parents: input, weight, and bias where there is one. Its products have the precision of the forward one; it also keeps
/// the product before the GELU.
#[derive(Debug)]
struct LinearGeluBackward(MatmulPrecision);

impl<const N: usize> Backward<Flex, N> for LinearGeluBackward {
    type State = (Saved, FlexTensor);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = contiguous(grads.consume::<Flex>(&ops.node));
        let (saved, pre) = &ops.state;
        let mut d_pre = buffer(floats(pre).len());
        gelu_backward(floats(pre), floats(&dy), &mut d_pre);
        let d_pre = tensor(d_pre, &dims(pre));
        linear::backward(self.0, &ops, grads, saved, &d_pre);
    }
}
