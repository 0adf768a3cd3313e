//! Layer norm on a GPU, in every variant of its kernels, against the CPU and finite differences: values and the
//! gradient of every operand.
use crate::common::gpu::{gpu, on_every_variant};
use crate::common::gradients::{check_operation, check_operation_in_half, close, noise, tensor};
use crate::common::values;
use burn::tensor::Tensor;
use mor_model::gpu::Variant;
use mor_model::ops::{self, composed};

const EPS: f32 = 1e-5;

fn layer_norm(variant: Variant) {
    let (device, _guard) = gpu(variant);
    check_operation("layer norm", &device, variant);
}

on_every_variant!(layer_norm);

#[test]
fn works_without_gradients_and_with_those_of_the_input_alone() {
    let (device, _guard) = gpu(Variant::Workgroup);
    let [x, gain, bias] = [([2, 3, 10], 1), ([1, 1, 10], 2), ([1, 1, 10], 3)]
        .map(|(shape, seed)| tensor(&noise(shape.iter().product(), seed), shape, &device));
    let [gain, bias] = [gain, bias].map(|x| x.flatten::<1>(0, 2));
    let expected = composed::layer_norm(x.clone(), None, gain.clone(), bias.clone(), EPS);
    let found = ops::layer_norm(x.clone(), None, gain.clone(), bias.clone(), EPS);
    close("untracked", &values(found), &values(expected), 2e-5);

    let differentiated = |f: fn(_, _, _, _, _) -> Tensor<3>| {
        let device = device.clone().autodiff();
        let x = Tensor::<3>::from_data(x.to_data(), &device).require_grad();
        let [gain, bias] =
            [&gain, &bias].map(|tensor| Tensor::<1>::from_data(tensor.to_data(), &device));
        let y = f(x.clone(), None::<Tensor<3>>, gain, bias, EPS);
        values(
            x.grad(&(y.clone() * y * x.clone()).sum().backward())
                .expect("one"),
        )
    };
    close(
        "gradient",
        &differentiated(ops::layer_norm),
        &differentiated(composed::layer_norm),
        2e-5,
    );
}

#[test]
fn half_precision_is_close() {
    check_operation_in_half("layer norm");
}
