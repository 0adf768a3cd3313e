//! Linear layers, and those that a GELU follows.

use burn::tensor::{FloatDType, Tensor};

use super::case::{Case, Operand, noise};
use crate::MatmulPrecision;
use crate::ops::{self, composed};

/// Rows `[batch, seq, in]`, a weight `[1, out, in]` and a bias `[1, 1, out]`.
fn operands([batch, seq, inputs, outputs]: [usize; 4], rows: f32, weights: f32) -> Vec<Operand> {
    vec![
        (
            scaled(noise(batch * seq * inputs, 1), rows),
            [batch, seq, inputs],
        ),
        (
            scaled(noise(outputs * inputs, 2), weights),
            [1, outputs, inputs],
        ),
        (noise(outputs, 3), [1, 1, outputs]),
    ]
}

fn scaled(mut values: Vec<f32>, by: f32) -> Vec<f32> {
    values.iter_mut().for_each(|value| *value *= by);
    values
}

fn linear(x: &[Tensor<3>], rows: FloatDType) -> Tensor<3> {
    let weight = x[1].clone().squeeze_dim(0);
    ops::linear(
        MatmulPrecision::F32,
        stored(&x[0], rows),
        weight,
        Some(x[2].clone().flatten(0, 2)),
    )
}

/// The GELU of a linear layer's output, `[batch, seq, out]`; on the CPU the composed form. `x` is rows `[batch, seq, in]`, a
/// weight `[1, out, in]` and, if there is one, a bias `[1, 1, out]`; on a GPU rows are stored in the given precision.
pub fn linear_gelu(x: &[Tensor<3>], rows: FloatDType) -> Tensor<3> {
    let weight = x[1].clone().squeeze_dim(0);
    let bias = x.get(2).map(|bias| bias.clone().flatten(0, 2));
    match ops::is_cpu(&x[0].device()) {
        true => composed::linear_gelu(x[0].clone(), weight, bias),
        false => ops::linear_gelu(MatmulPrecision::F32, stored(&x[0], rows), weight, bias),
    }
}

/// Rows in a precision.
pub(super) fn stored(x: &Tensor<3>, rows: FloatDType) -> Tensor<3> {
    match rows {
        FloatDType::F16 => x.clone().cast(rows),
        _ => x.clone(),
    }
}

pub(super) fn linear_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Rows of a chunk of the bias's gradient, one more than that, many chunks; and a layer of a model.
    for shape in [
        [1, 1, 1, 1],
        [2, 3, 4, 5],
        [1, 16, 3, 65],
        [1, 17, 3, 64],
        [3, 100, 5, 33],
        [2, 40, 384, 1024],
    ] {
        let operands = operands(shape, 1.0, 1.0);
        let what = format!("linear of {shape:?}");
        let turned = format!("{what}, turned");
        cases.push(Case::new(what, operands.clone(), |x| {
            linear(x, FloatDType::F32)
        }));
        // The gradient comes back as a view.
        cases.push(Case::new(turned, operands, |x| {
            linear(x, FloatDType::F32).swap_dims(1, 2)
        }));
    }
    let operands = operands([3, 100, 8, 33], 1.0, 0.3);
    cases.push(Case::half("linear", operands, linear));
    cases
}

pub(super) fn gelu_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in [
        [1, 1, 1, 1],
        [2, 3, 4, 5],
        [2, 7, 5, 33],
        [1, 3, 3, 1025],
        [3, 5, 7, 3072],
    ] {
        let mut operands = operands(shape, 2.0, 1.0);
        let what = format!("gelu of {shape:?}");
        cases.push(Case::new(what.clone(), operands.clone(), |x| {
            linear_gelu(x, FloatDType::F32)
        }));
        operands.pop();
        let what = format!("{what} without bias");
        cases.push(Case::new(what, operands, |x| {
            linear_gelu(x, FloatDType::F32)
        }));
    }
    let operands = operands([2, 7, 40, 33], 1.0, 1.0);
    cases.push(Case::half("gelu", operands, linear_gelu));
    cases
}
