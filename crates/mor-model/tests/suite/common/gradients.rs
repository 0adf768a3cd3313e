//! Values and gradients of an operation on a GPU against the CPU and finite differences.

use burn::tensor::{Device, Tensor, TensorData};

use super::{distance, values};

/// Numbers between -1 and 1 that look random.
pub(crate) fn noise(len: usize, seed: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 7919 + seed * 104_729 + 13) as f32 * 0.618).sin())
        .collect()
}

/// A tensor of these values.
pub(crate) fn tensor<const D: usize>(
    values: &[f32],
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// What a function of some operands gives on a device: its values, and the gradients of an arbitrary function of them.
pub(crate) fn differentiate(
    device: &Device,
    operands: &[(Vec<f32>, [usize; 3])],
    f: &dyn Fn(&[Tensor<3>]) -> Tensor<3>,
) -> Vec<Vec<f32>> {
    let device = device.clone().autodiff();
    let operands: Vec<_> = operands
        .iter()
        .map(|(values, shape)| tensor(values, *shape, &device).require_grad())
        .collect();
    let y = f(&operands);
    let weights = tensor(&noise(y.shape().num_elements(), 99), y.dims(), &device);
    let mut found = vec![values(y.clone())];
    let gradients = (y * weights).sum().backward();
    let gradients = operands
        .iter()
        .map(|x| values(x.grad(&gradients).expect("a gradient")));
    found.extend(gradients);
    found
}

/// Gradients by central differences, in f32: good for three digits.
pub(crate) fn differences(
    device: &Device,
    operands: &[(Vec<f32>, [usize; 3])],
    f: &dyn Fn(&[Tensor<3>]) -> Tensor<3>,
) -> Vec<Vec<f32>> {
    const STEP: f32 = 1e-2;
    let value = |operands: &[(Vec<f32>, [usize; 3])]| -> f64 {
        let operands: Vec<_> = operands
            .iter()
            .map(|(values, shape)| tensor(values, *shape, device))
            .collect();
        let y = values(f(&operands));
        let weights = noise(y.len(), 99);
        let products = y.iter().zip(&weights);
        products.map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
    };
    let mut operands = operands.to_vec();
    (0..operands.len())
        .map(|operand| {
            (0..operands[operand].0.len())
                .map(|at| {
                    let old = operands[operand].0[at];
                    operands[operand].0[at] = old + STEP;
                    let above = value(&operands);
                    operands[operand].0[at] = old - STEP;
                    let below = value(&operands);
                    operands[operand].0[at] = old;
                    ((above - below) / f64::from(2.0 * STEP)) as f32
                })
                .collect()
        })
        .collect()
}

/// Holds values to a part of the largest of those they should be, or of 1.
pub(crate) fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    let largest = expected.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
    let worst = distance(found, expected);
    println!("{what}: {worst:.1e} of {largest:.2}");
    assert!(worst < tolerance * largest, "{what}: {worst} of {largest}");
}

/// Holds the GPU to the CPU, and both to finite differences where operands are small.
pub(crate) fn check(
    what: &str,
    gpu: &Device,
    operands: &[(Vec<f32>, [usize; 3])],
    f: &dyn Fn(&[Tensor<3>]) -> Tensor<3>,
) {
    check_within(2e-5, what, gpu, operands, f);
}

/// As [`check`], with a tolerance between GPU and CPU.
pub(crate) fn check_within(
    tolerance: f32,
    what: &str,
    gpu: &Device,
    operands: &[(Vec<f32>, [usize; 3])],
    f: &dyn Fn(&[Tensor<3>]) -> Tensor<3>,
) {
    let found = differentiate(gpu, operands, f);
    let expected = differentiate(&Device::flex(), operands, f);
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        close(&format!("{what}, result {at}"), found, expected, tolerance);
    }
    if operands.iter().all(|(values, _)| values.len() <= 64) {
        // On the CPU, whose values the GPU's were just held to: hundreds of calls take a software GPU minutes.
        let expected = differences(&Device::flex(), operands, f);
        for (at, (found, expected)) in found[1..].iter().zip(&expected).enumerate() {
            close(&format!("{what}, difference {at}"), found, expected, 2e-3);
        }
    }
}
