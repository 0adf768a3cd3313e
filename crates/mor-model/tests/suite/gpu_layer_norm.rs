//! Layer norm on a GPU, in every variant of its kernels, against the CPU and finite differences: values and the
//! gradient of every operand.
use crate::common::gpu::{check_half, gpu, on_every_variant};
use crate::common::gradients::{check, close, noise, tensor};
use crate::common::values;
use burn::tensor::Tensor;
use mor_model::gpu::Variant;
use mor_model::ops::{self, composed};

const EPS: f32 = 1e-5;

type Operand = (Vec<f32>, [usize; 3]);

/// Of `[x, gain, bias]`, or `[x, gain, bias, residual]`, gain and bias in the last dimension.
fn norm(x: &[Tensor<3>]) -> Tensor<3> {
    let [gain, bias] = [1, 2].map(|at| x[at].clone().flatten(0, 2));
    ops::layer_norm(x[0].clone(), x.get(3).cloned(), gain, bias, EPS)
}

fn operands([batch, seq, dim]: [usize; 3], residual: bool) -> Vec<Operand> {
    let rows = |seed| (noise(batch * seq * dim, seed), [batch, seq, dim]);
    let parameter = |seed| (noise(dim, seed), [1, 1, dim]);
    let mut operands = vec![rows(1), parameter(2), parameter(3)];
    operands.extend(residual.then(|| rows(4)));
    operands
}

fn layer_norm(variant: Variant) {
    let (device, _guard) = gpu(variant);
    let shapes = [
        [1, 1, 5],
        [2, 3, 7],
        [2, 7, 33],
        [3, 40, 48],
        [1, 5, 3072],
        // More workgroups than a dimension of the grid has.
        [1, 33_000, 4],
    ];
    for shape in shapes {
        for residual in [false, true] {
            let what = format!("{variant} layer norm of {shape:?}, residual {residual}");
            check(&what, &device, &operands(shape, residual), &norm);
        }
    }
    // On views: neither operand is contiguous, or starts where its buffer does.
    check(
        &format!("{variant} layer norm of views"),
        &device,
        &operands([3, 8, 6], true),
        &|x| {
            let [a, b] = [0, 3].map(|at| x[at].clone().narrow(0, 1, 2).swap_dims(1, 2));
            let [gain, bias] = [x[1].clone(), x[2].clone()].map(|x| x.flatten::<1>(0, 2));
            let [gain, bias] = [gain, bias].map(|x| Tensor::cat(vec![x.clone(), x], 0));
            let [gain, bias] = [gain, bias].map(|x| x.narrow(0, 2, 8));
            ops::layer_norm(a, Some(b), gain, bias, EPS)
        },
    );
}

on_every_variant!(layer_norm);

/// A variance from the mean of squares would lose three digits here.
#[test]
fn means_far_from_zero_cost_no_digits() {
    for variant in Variant::ALL {
        let (device, _guard) = gpu(variant);
        let mut operands = operands([2, 5, 40], false);
        operands[0].0.iter_mut().for_each(|x| *x += 64.0);
        let what = format!("{variant} layer norm far from zero");
        check(&what, &device, &operands, &norm);
    }
}

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

/// Gain and bias, and their gradients, are f32.
#[test]
fn half_precision_is_close() {
    // An odd number of elements, so that one shares no word.
    let operands = operands([3, 7, 33], true);
    check_half("layer norm", &operands, 5e-3, |x, dtype| {
        let [gain, bias] = [1, 2].map(|at| x[at].clone().flatten(0, 2));
        let [a, b] = [0, 3].map(|at| x[at].clone().cast(dtype));
        ops::layer_norm(a, Some(b), gain, bias, EPS)
    });
}
