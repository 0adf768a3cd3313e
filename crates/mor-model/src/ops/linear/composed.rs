//! Linear layers from Burn's own operations, for any device and precision.

use burn::tensor::{Tensor, module};

use crate::ops::backend::operands::stored_as;

/// See [`super::linear`].
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let dtype = x.dtype();
    let bias = bias.map(|bias| stored_as(bias, dtype));
    module::linear(x, stored_as(weight, dtype).transpose(), bias)
}
