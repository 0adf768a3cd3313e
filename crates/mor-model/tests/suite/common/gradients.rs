//! Values and gradients of an operation on a GPU against the CPU and finite differences.

use burn::tensor::{Device, FloatDType, Tensor};
use mor_model::gpu::Variant;
use mor_model::operations::{Case, OPERATIONS, Operand};
pub(crate) use mor_model::operations::{differentiate, noise, tensor};

use super::{distance, values};

/// The cases of an operation, in f32 or f16.
fn cases(operation: &str, half: bool) -> Vec<Case> {
    let found = OPERATIONS.iter().find(|known| known.name == operation);
    let cases = (found.expect("an operation").cases)().into_iter();
    cases.filter(|case| case.half == half).collect()
}

/// Holds the GPU to the CPU in every case of an operation in f32, and to finite differences where operands are small.
pub(crate) fn check_operation(operation: &str, gpu: &Device, variant: Variant) {
    for case in cases(operation, false) {
        let software = mor_model::gpu::is_software();
        if case.slow_to_compile && software && variant == Variant::Portable {
            continue;
        }
        check_case(&case, gpu, variant.name());
        if let Some((operands, f)) = case.function() {
            let f = |x: &[Tensor<3>]| f(x, FloatDType::F32);
            let what = format!("{variant} {}", case.what);
            check_differences(&what, gpu, operands, &f);
        }
    }
}

/// Holds the GPU to the CPU in every case of an operation in f16: as close as the rounding of operands and results lets
/// it be.
pub(crate) fn check_operation_in_half(operation: &str) {
    let cases = cases(operation, true);
    assert!(!cases.is_empty(), "{operation}");
    for variant in Variant::ALL {
        let (device, _guard) = super::gpu::gpu(variant);
        if !mor_model::supports_half(&device) {
            // Training says so and refuses; see its tests.
            let software = mor_model::gpu::is_software();
            assert!(!software, "the adapter of the tests has shader-f16");
            return;
        }
        for case in &cases {
            check_case(case, &device, variant.name());
        }
    }
}

fn check_case(case: &Case, gpu: &Device, variant: &str) {
    let (found, expected) = (case.run(gpu), case.run(&Device::flex()));
    assert!(expected.iter().all(|result| !result.is_empty()));
    for apart in case.compare(&found, &expected) {
        let (what, result, largest) = (&case.what, apart.result, apart.largest);
        println!("{variant} {what}, result {result}: {largest:.1e}");
        assert!(
            apart.allowed,
            "{variant} {what}, result {result}: {largest}"
        );
    }
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
    let found = differentiate(gpu, operands, f);
    let expected = differentiate(&Device::flex(), operands, f);
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        close(&format!("{what}, result {at}"), found, expected, 2e-5);
    }
    check_differences(what, gpu, operands, f);
}

/// Holds the gradients of a GPU to finite differences where operands are small.
fn check_differences(
    what: &str,
    gpu: &Device,
    operands: &[Operand],
    f: &dyn Fn(&[Tensor<3>]) -> Tensor<3>,
) {
    if operands.iter().any(|(values, _)| values.len() > 64) {
        return;
    }
    let found = differentiate(gpu, operands, f);
    // On the CPU, whose values the GPU's were just held to: hundreds of calls take a software GPU minutes.
    let expected = differences(&Device::flex(), operands, f);
    for (at, (found, expected)) in found[1..].iter().zip(&expected).enumerate() {
        close(&format!("{what}, difference {at}"), found, expected, 2e-3);
    }
}
