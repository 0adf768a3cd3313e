//! What optimizers do to parameters on a GPU, against the CPU's kernels and plain formulas.
use crate::common::gpu::gpu;
use crate::common::gradients::{check_operation, noise};
use crate::common::{distance, values};
use burn::tensor::{Device, Tensor};
use mor_model::gpu::Variant;
use mor_model::ops::update::{AdamW, adamw, momentum, scaled_sum};

const LEN: usize = 1_025;

fn vector(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(values, device)
}

#[test]
fn they_are_those_of_the_cpu() {
    let (device, _guard) = gpu(Variant::Portable);
    // Their shaders are the same in every variant.
    for operation in ["adamw", "momentum", "scaled sum"] {
        check_operation(operation, &device, Variant::Portable);
    }
}

#[test]
fn squares_are_summed_over_all_vectors() {
    for variant in Variant::ALL {
        let (device, _guard) = gpu(variant);
        check_operation("sum of squares", &device, variant);
    }
}

#[test]
fn adamw_leaves_other_holders_alone() {
    let (device, _guard) = gpu(Variant::Portable);
    let settings = AdamW {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        grad_scale: 0.5,
        step: 1,
    };
    let start = vector(&noise(LEN, 0), &device);
    let moments = [0, 1].map(|_| Tensor::zeros([LEN], &device));
    let gradient = vector(&noise(LEN, 1), &device);
    let (moved, _) = adamw(&settings, start.clone(), gradient, moments);
    assert!(distance(&values(moved), &noise(LEN, 0)) > 1e-3, "moved");
    assert_eq!(values(start), noise(LEN, 0), "written over");
}

#[test]
fn momentum_is_a_moving_average_with_a_look_ahead() {
    let (gpu, _guard) = gpu(Variant::Portable);
    for device in [gpu, Device::flex()] {
        let (gradient, before) = (noise(LEN, 1), noise(LEN, 2));
        let held = vector(&gradient, &device);
        let (ahead, after) = momentum(held.clone(), vector(&before, &device), 0.95, 0.5);
        let expected: Vec<[f32; 2]> = gradient
            .iter()
            .zip(&before)
            .map(|(g, m)| {
                let after = 0.95 * m + 0.05 * 0.5 * g;
                [0.95 * after + 0.05 * 0.5 * g, after]
            })
            .collect();
        let column = |at: usize| expected.iter().map(|row| row[at]).collect::<Vec<f32>>();
        assert!(distance(&values(ahead), &column(0)) < 1e-6);
        assert!(distance(&values(after), &column(1)) < 1e-6);
        assert_eq!(values(held), gradient, "written over");
    }
}

#[test]
fn a_scaled_sum_leaves_other_holders_alone() {
    let (gpu, _guard) = gpu(Variant::Portable);
    for device in [gpu, Device::flex()] {
        let (x, y) = (noise(LEN, 1), noise(LEN, 2));
        let held = vector(&y, &device);
        let found = scaled_sum(vector(&x, &device), 3.0, held.clone(), -0.5);
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 3.0 * x - 0.5 * y).collect();
        assert!(distance(&values(found), &expected) < 1e-6);
        assert_eq!(values(held), y, "written over");
    }
}
