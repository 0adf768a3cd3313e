//! GELU and the rows' cross-entropy on a GPU, in every variant of their kernels, against their composed forms on the CPU
//! and finite differences: values and the gradient of every operand.
use crate::common::gpu::{gpu, on_every_variant};
use crate::common::gradients::{
    check_operation, check_operation_in_half, differentiate, noise, tensor,
};
use crate::common::{distance, values};
use burn::tensor::{Device, FloatDType, Tensor};
use mor_model::MatmulPrecision;
use mor_model::gpu::Variant;
use mor_model::operations::{IGNORE, linear_gelu, mean_loss, row_losses};
use mor_model::ops;

const F32: MatmulPrecision = MatmulPrecision::F32;

fn gelu(variant: Variant) {
    let (device, _guard) = gpu(variant);
    check_operation("gelu", &device, variant);
    // Where the tails are; the product is the operand itself.
    let x: Vec<f32> = (-120..=120).map(|at| at as f32 / 8.0).collect();
    let operands = [(x, [1, 241, 1]), (vec![1.0], [1, 1, 1])];
    let [found, expected] = [device, Device::flex()]
        .map(|device| differentiate(&device, &operands, &|x| linear_gelu(x, FloatDType::F32)));
    for at in 0..2 {
        let worst = distance(&found[at], &expected[at]);
        println!("{variant} gelu from -15 to 15, result {at}: {worst:.1e}");
        assert!(worst < 2e-6, "{variant}, result {at}: {worst}");
    }
}

fn losses(variant: Variant) {
    let (device, _guard) = gpu(variant);
    check_operation("cross-entropy", &device, variant);
}

/// The losses of four rows whose logits are `values`, and the gradient of their sum.
fn losses_of_logits(device: &Device, logits: [f32; 12], targets: [i64; 4]) -> [Vec<f32>; 2] {
    let device = device.clone().autodiff();
    let logits = tensor(&logits, [1, 4, 3], &device).require_grad();
    let one = tensor(&[1., 0., 0., 0., 1., 0., 0., 0., 1.], [1, 3, 3], &device);
    let losses = row_losses(&[logits.clone(), one], &targets);
    let found = values(losses.clone());
    let gradients = losses.sum().backward();
    [found, values(logits.grad(&gradients).expect("a gradient"))]
}

on_every_variant!(gelu, losses);

#[test]
fn targets_beyond_the_vocabulary_have_neither_loss_nor_gradient() {
    for variant in Variant::ALL {
        let (device, _guard) = gpu(variant);
        let targets = [3, 1, -1, i64::from(i32::MAX)];
        let [losses, gradient] = losses_of_logits(&device, [1.0; 12], targets);
        assert_eq!([losses[0], losses[2], losses[3]], [0.0; 3], "{variant}");
        assert!(
            (losses[1] - 3f32.ln()).abs() < 1e-6,
            "{variant}: {losses:?}"
        );
        assert_eq!(gradient[..3], [0.0; 3], "{variant}");
        assert!((gradient[4] + 2.0 / 3.0).abs() < 1e-6, "{variant}");
        assert_eq!(gradient[6..], [0.0; 6], "{variant}");
    }
    // Nor do they count in the mean, on any device.
    let (hidden, weight) = (noise(4 * 8, 1), noise(3 * 8, 2));
    let (device, _guard) = gpu(Variant::Workgroup);
    let [here, there] = [Device::flex(), device].map(|device| {
        let operands = [(&hidden, [1, 4, 8]), (&weight, [1, 3, 8])];
        let operands = operands.map(|(values, shape)| tensor(values, shape, &device));
        values(mean_loss(&operands, &[3, 1, -1, 0]))[0]
    });
    assert!((here - there).abs() < 1e-5, "{here} and {there}");
}

#[test]
fn extreme_logits_have_finite_losses_and_what_is_no_number_shows() {
    for variant in Variant::ALL {
        let (device, _guard) = gpu(variant);
        let logits = [3e4, -3e4, 0., -1e30, -1e30, -1e30, 1e30, 0., 0., 5., 5., 5.];
        let [losses, gradient] = losses_of_logits(&device, logits, [1, 0, 0, IGNORE]);
        assert_eq!(losses[0], 6e4, "{variant}");
        assert!(
            (losses[1] - 3f32.ln()).abs() < 1e-6,
            "{variant}: {losses:?}"
        );
        assert_eq!(losses[2..], [0.0; 2], "{variant}");
        assert!(
            gradient.iter().all(|d| d.is_finite()),
            "{variant}: {gradient:?}"
        );
        for bad in [f32::NAN, f32::INFINITY] {
            let logits = [bad, 0., 0., 0., bad, 0., 0., 0., bad, 0., 0., 0.];
            let [losses, _] = losses_of_logits(&device, logits, [1, 1, 1, 1]);
            let finite: Vec<bool> = losses.iter().map(|loss| loss.is_finite()).collect();
            assert_eq!(finite, [false, false, false, true], "{variant}: {losses:?}");
        }
    }
}

#[test]
fn gelu_leaves_other_holders_of_its_gradient_alone() {
    let (device, _guard) = gpu(Variant::Portable);
    let device = device.autodiff();
    let x = Tensor::<3>::zeros([1, 2, 1], &device).require_grad();
    let other = Tensor::<3>::zeros([1, 2, 1], &device).require_grad();
    let weight = Tensor::<2>::ones([1, 1], &device);
    let weights = tensor(&[2.0, 3.0], [1, 2, 1], &device);
    // A sum hands one gradient to both of its terms.
    let y = (ops::linear_gelu(F32, x.clone(), weight, None) + other.clone()) * weights;
    let gradients = y.sum().backward();
    let gradient = |x: Tensor<3>| values(x.grad(&gradients).expect("a gradient"));
    assert_eq!(gradient(other), [2.0, 3.0]);
    assert_eq!(gradient(x), [1.0, 1.5]);
}

#[test]
fn half_precision_is_close() {
    check_operation_in_half("gelu");
    check_operation_in_half("cross-entropy");
}
