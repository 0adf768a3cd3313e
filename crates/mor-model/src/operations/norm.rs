//! Layer norm.

use burn::tensor::{FloatDType, Tensor};

use super::case::{Case, Operand, noise};
use super::linear::stored;
use crate::ops;

const EPS: f32 = 1e-5;

/// Of `[x, gain, bias]`, or `[x, gain, bias, residual]`, gain and bias in the last dimension.
fn norm(x: &[Tensor<3>], rows: FloatDType) -> Tensor<3> {
    let [gain, bias] = [1, 2].map(|at| x[at].clone().flatten(0, 2));
    let residual = x.get(3).map(|residual| stored(residual, rows));
    ops::layer_norm(stored(&x[0], rows), residual, gain, bias, EPS)
}

fn operands([batch, seq, dim]: [usize; 3], residual: bool) -> Vec<Operand> {
    let rows = |seed| (noise(batch * seq * dim, seed), [batch, seq, dim]);
    let parameter = |seed| (noise(dim, seed), [1, 1, dim]);
    let mut operands = vec![rows(1), parameter(2), parameter(3)];
    operands.extend(residual.then(|| rows(4)));
    operands
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
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
            let what = format!("layer norm of {shape:?}, residual {residual}");
            cases.push(Case::new(what, operands(shape, residual), |x| {
                norm(x, FloatDType::F32)
            }));
        }
    }
    // On views: neither operand is contiguous, or starts where its buffer does.
    let views = operands([3, 8, 6], true);
    cases.push(Case::new("layer norm of views", views, |x| {
        let [a, b] = [0, 3].map(|at| x[at].clone().narrow(0, 1, 2).swap_dims(1, 2));
        let [gain, bias] = [x[1].clone(), x[2].clone()].map(|x| x.flatten::<1>(0, 2));
        let [gain, bias] = [gain, bias].map(|x| Tensor::cat(vec![x.clone(), x], 0));
        let [gain, bias] = [gain, bias].map(|x| x.narrow(0, 2, 8));
        ops::layer_norm(a, Some(b), gain, bias, EPS)
    }));
    // A variance from the mean of squares would lose three digits here.
    let mut far = operands([2, 5, 40], false);
    far[0].0.iter_mut().for_each(|x| *x += 64.0);
    cases.push(Case::new("layer norm far from zero", far, |x| {
        norm(x, FloatDType::F32)
    }));
    // An odd number of elements, so that one shares no word. Gain and bias, and their gradients, are f32.
    let odd = operands([3, 7, 33], true);
    cases.push(Case::half("layer norm", odd, norm));
    cases
}
