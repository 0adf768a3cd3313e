//! An operation on certain inputs, and how far devices may differ there.

use burn::tensor::{Device, FloatDType, Tensor, TensorData};

/// Values, and their shape.
pub type Operand = (Vec<f32>, [usize; 3]);

/// What is computed of some operands, with rows stored in this precision.
pub type Function = Box<dyn Fn(&[Tensor<3>], FloatDType) -> Tensor<3>>;

/// What is computed without operands that have a gradient.
type Plain = Box<dyn Fn(&Device) -> Vec<Vec<f32>>>;

enum Computation {
    Differentiable(Vec<Operand>, Function),
    Plain(Plain),
}

/// An operation on certain inputs.
pub struct Case {
    /// Which operation, and on what.
    pub what: String,
    /// How far a number may be from the CPU's, as a part of the largest of its tensor, or of 1.
    pub tolerance: f32,
    /// Whether a GPU stores rows as f16, which not every adapter can. The CPU computes in f32 either way.
    pub half: bool,
    /// Whether its portable kernels have loops so long, all written out, that an adapter which is the processor takes a
    /// minute or more to compile them.
    pub slow_to_compile: bool,
    computation: Computation,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("what", &self.what).finish()
    }
}

/// How far a result of a device is from that of the CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Which result: 0 are the values, then the gradients of the operands.
    pub result: usize,
    /// The largest difference, as a part of the largest number expected, or of 1; infinite where a result is missing or
    /// holds what is no number.
    pub largest: f32,
    /// Whether the case allows it.
    pub allowed: bool,
}

impl Case {
    /// A function of operands that have gradients, in f32.
    pub(super) fn new(
        what: impl Into<String>,
        operands: Vec<Operand>,
        function: impl Fn(&[Tensor<3>]) -> Tensor<3> + 'static,
    ) -> Self {
        Self {
            what: what.into(),
            tolerance: 2e-5,
            half: false,
            slow_to_compile: false,
            computation: Computation::Differentiable(operands, Box::new(move |x, _| function(x))),
        }
    }

    /// A function of operands, some of which it stores as f16 where it is told to.
    pub(super) fn half(
        what: impl Into<String>,
        operands: Vec<Operand>,
        function: impl Fn(&[Tensor<3>], FloatDType) -> Tensor<3> + 'static,
    ) -> Self {
        let whole = move |x: &[Tensor<3>], dtype| function(x, dtype).cast(FloatDType::F32);
        Self {
            what: format!("{}, f16", what.into()),
            tolerance: 5e-3,
            half: true,
            slow_to_compile: false,
            computation: Computation::Differentiable(operands, Box::new(whole)),
        }
    }

    /// What has no gradient.
    pub(super) fn plain(
        what: impl Into<String>,
        compute: impl Fn(&Device) -> Vec<Vec<f32>> + 'static,
    ) -> Self {
        Self {
            what: what.into(),
            tolerance: 1e-6,
            half: false,
            slow_to_compile: false,
            computation: Computation::Plain(Box::new(compute)),
        }
    }

    /// With another tolerance.
    pub(super) fn within(self, tolerance: f32) -> Self {
        Self { tolerance, ..self }
    }

    /// Says of it that a software adapter takes long to compile its portable kernels, if that `is` so.
    pub(super) fn slow_to_compile(self, is: bool) -> Self {
        Self {
            slow_to_compile: is,
            ..self
        }
    }

    /// The values, and the gradients of an arbitrary function of them, on a device; a GPU's failure is Burn's panic.
    pub fn run(&self, device: &Device) -> Vec<Vec<f32>> {
        match &self.computation {
            Computation::Plain(compute) => compute(device),
            Computation::Differentiable(operands, function) => {
                let dtype = match self.half && !crate::ops::is_cpu(device) {
                    true => FloatDType::F16,
                    false => FloatDType::F32,
                };
                differentiate(device, operands, &|x| function(x, dtype))
            }
        }
    }

    /// The operands and the function of what has gradients.
    pub fn function(&self) -> Option<(&[Operand], &Function)> {
        match &self.computation {
            Computation::Differentiable(operands, function) => {
                Some((operands.as_slice(), function))
            }
            Computation::Plain(_) => None,
        }
    }

    /// Compares what [`Self::run`] gave on a device with what it gave on the CPU.
    pub fn compare(&self, found: &[Vec<f32>], expected: &[Vec<f32>]) -> Vec<Difference> {
        let results = expected.iter().enumerate();
        let differences = results.map(|(result, expected)| {
            let largest = match found.get(result) {
                Some(found) => relative_distance(found, expected),
                None => f32::INFINITY,
            };
            Difference {
                result,
                largest,
                allowed: largest <= self.tolerance,
            }
        });
        differences.collect()
    }
}

/// The largest difference as a part of the largest number expected, or of 1.
fn relative_distance(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() {
        return f32::INFINITY;
    }
    let scale = expected.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |most, (found, expected)| {
        let apart = (found - expected).abs() / scale;
        // `max` would pass over what is not a number.
        match apart.is_nan() {
            true => f32::INFINITY,
            false => most.max(apart),
        }
    })
}

/// Numbers between -1 and 1 that look random.
pub fn noise(len: usize, seed: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 7919 + seed * 104_729 + 13) as f32 * 0.618).sin())
        .collect()
}

/// A tensor of these values.
pub fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// What a function of some operands gives on a device: its values, and the gradients of an arbitrary function of them,
/// empty where an operand has none.
pub fn differentiate(
    device: &Device,
    operands: &[Operand],
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
        .map(|x| x.grad(&gradients).map(values).unwrap_or_default());
    found.extend(gradients);
    found
}

/// The values of a tensor in f32.
pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.without_autodiff().into_data().convert::<f32>();
    data.try_into_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::OPERATIONS;

    #[test]
    fn a_difference_is_seen_and_so_is_what_is_missing_or_no_number() {
        let case = Case::plain("three numbers", |_| vec![vec![1.0, -4.0, 2.0]]);
        let expected = case.run(&Device::flex());
        let largest = |found: &[Vec<f32>]| case.compare(found, &expected)[0];
        assert!(largest(&expected).allowed);
        let apart = largest(&[vec![1.0, -4.0, 3.0]]);
        assert_eq!((apart.largest, apart.allowed), (0.25, false));
        for bad in [vec![], vec![vec![1.0]], vec![vec![1.0, f32::NAN, 2.0]]] {
            let apart = largest(&bad);
            assert_eq!((apart.largest, apart.allowed), (f32::INFINITY, false));
        }
    }

    #[test]
    fn every_operation_has_cases_whose_results_are_numbers() {
        for operation in OPERATIONS {
            let cases = (operation.cases)();
            assert!(!cases.is_empty(), "{}", operation.name);
            for case in cases {
                // Small ones alone: the others take their time, and the tests of GPUs run them.
                let small = |(operands, _): (&[Operand], _)| {
                    operands.iter().all(|(values, _)| values.len() < 5000)
                };
                if case.function().is_none_or(small) {
                    let results = case.run(&Device::flex());
                    let all: Vec<f32> = results.concat();
                    assert!(!all.is_empty(), "{}", case.what);
                    assert!(all.iter().all(|x| x.is_finite()), "{}", case.what);
                }
            }
        }
    }
}
