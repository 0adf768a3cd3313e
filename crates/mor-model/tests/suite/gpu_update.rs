//! What optimizers do to parameters on a GPU, against the CPU's kernels.
use crate::common::gpu::gpu;
use crate::common::gradients::noise;
use crate::common::{distance, values};
use burn::tensor::{Device, Tensor};
use mor_model::gpu::Variant;
use mor_model::ops::update::{AdamW, adamw, momentum, scaled_sum, sum_squares};

/// One element, less and more than a workgroup's, and more than a row of workgroups has.
const LENGTHS: [usize; 4] = [1, 61, 1_025, 2_100_000];

fn vector(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(values, device)
}

#[test]
fn adamw_is_that_of_the_cpu_and_leaves_other_holders_alone() {
    let (device, _guard) = gpu(Variant::Portable);
    for len in LENGTHS {
        let mut expected = [noise(len, 0), vec![0.0; len], vec![0.0; len]];
        let start = vector(&expected[0], &device);
        let mut found = (
            start.clone(),
            [&expected[1], &expected[2]].map(|moment| vector(moment, &device)),
        );
        for step in 1..=3 {
            let settings = AdamW {
                learning_rate: 1e-2,
                beta1: 0.9,
                beta2: 0.99,
                eps: 1e-8,
                weight_decay: 0.1,
                grad_scale: 0.5,
                step,
            };
            let gradient = noise(len, step as usize);
            let [values, first, second] = &mut expected;
            mor_kernels::adamw_step(&settings, values, &gradient, first, second);
            let (values, moments) = found;
            found = adamw(&settings, values, vector(&gradient, &device), moments);
        }
        let (moved, [first, second]) = found;
        for (found, expected) in [moved, first, second].into_iter().zip(&expected) {
            let worst = distance(&values(found), expected);
            println!("{len}: {worst:.1e}");
            assert!(worst < 1e-6, "{worst}");
        }
        assert_eq!(values(start), noise(len, 0), "written over");
    }
}

#[test]
fn momentum_is_a_moving_average_with_a_look_ahead() {
    let (device, _guard) = gpu(Variant::Portable);
    for len in LENGTHS {
        let (gradient, before) = (noise(len, 1), noise(len, 2));
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
fn scaled_sums_of_views_too() {
    let (device, _guard) = gpu(Variant::Portable);
    for len in LENGTHS {
        let (x, y) = (noise(len, 1), noise(len, 2));
        let held = vector(&y, &device);
        let found = scaled_sum(vector(&x, &device), 3.0, held.clone(), -0.5);
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 3.0 * x - 0.5 * y).collect();
        assert!(distance(&values(found), &expected) < 1e-6);
        assert_eq!(values(held), y, "written over");
    }
    let x = vector(&noise(60, 1), &device).reshape([5, 3, 4]);
    let y = vector(&noise(60, 2), &device).reshape([5, 4, 3]);
    let expected = x.clone() * 2.0 + y.clone().transpose() * 0.25;
    let found = scaled_sum(x, 2.0, y.transpose(), 0.25);
    assert!(distance(&values(found), &values(expected)) < 1e-6);
}

#[test]
fn squares_are_summed_over_all_vectors() {
    for variant in Variant::ALL {
        let (device, _guard) = gpu(variant);
        let vectors: Vec<_> = LENGTHS
            .iter()
            .zip(0..)
            .map(|(len, seed)| noise(*len, seed))
            .collect();
        let squares = vectors.iter().flatten().map(|x| f64::from(*x).powi(2));
        let expected: f64 = squares.sum();
        let vectors: Vec<_> = vectors.iter().map(|x| vector(x, &device)).collect();
        let parts = values(sum_squares(&vectors)).into_iter();
        let found: f64 = parts.map(f64::from).sum();
        println!("{variant}: {found} of {expected}");
        assert!((found / expected - 1.0).abs() < 1e-6, "{found}, {expected}");
    }
}
