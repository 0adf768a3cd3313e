//! What optimizers do to a parameter.

use burn::tensor::{Device, Tensor};

use super::case::{Case, noise, values};
use crate::ops;
use crate::ops::update::{AdamW, adamw, momentum, scaled_sum, sum_squares};

/// One element, less and more than a workgroup's, and more than a row of workgroups has.
const LENGTHS: [usize; 4] = [1, 61, 1_025, 2_100_000];

fn vector(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(values, device)
}

/// Three steps: the parameter and both moments after them.
fn three_steps(len: usize, device: &Device) -> Vec<Vec<f32>> {
    let settings = |step| AdamW {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        grad_scale: 0.5,
        step,
    };
    if ops::is_cpu(device) {
        // What training on the CPU runs.
        let mut all = [noise(len, 0), vec![0.0; len], vec![0.0; len]];
        for step in 1..=3 {
            let [parameter, first, second] = &mut all;
            let gradient = noise(len, step as usize);
            mor_kernels::adamw_step(&settings(step), parameter, &gradient, first, second);
        }
        return all.into();
    }
    let zeros = || Tensor::<1>::zeros([len], device);
    let mut parameter = vector(&noise(len, 0), device);
    let mut moments = [zeros(), zeros()];
    for step in 1..=3 {
        let gradient = vector(&noise(len, step as usize), device);
        (parameter, moments) = adamw(&settings(step), parameter, gradient, moments);
    }
    let [first, second] = moments;
    [parameter, first, second].map(values).into()
}

fn of_lengths(name: &str, compute: fn(usize, &Device) -> Vec<Vec<f32>>) -> Vec<Case> {
    let case = |len| {
        let what = format!("{name} of {len}");
        Case::plain(what, move |device| compute(len, device))
    };
    LENGTHS.into_iter().map(case).collect()
}

pub(super) fn adamw_cases() -> Vec<Case> {
    of_lengths("adamw", three_steps)
}

pub(super) fn momentum_cases() -> Vec<Case> {
    of_lengths("momentum", |len, device| {
        let (gradient, before) = (vector(&noise(len, 1), device), noise(len, 2));
        let (ahead, after) = momentum(gradient, vector(&before, device), 0.95, 0.5);
        vec![values(ahead), values(after)]
    })
}

pub(super) fn scaled_sum_cases() -> Vec<Case> {
    let mut cases = of_lengths("scaled sum", |len, device| {
        let [x, y] = [1, 2].map(|seed| vector(&noise(len, seed), device));
        vec![values(scaled_sum(x, 3.0, y, -0.5))]
    });
    cases.push(Case::plain("scaled sum of views", |device| {
        let x = vector(&noise(60, 1), device).reshape([5, 3, 4]);
        let y = vector(&noise(60, 2), device).reshape([5, 4, 3]);
        vec![values(scaled_sum(x, 2.0, y.transpose(), 0.25))]
    }));
    cases
}

pub(super) fn sum_squares_cases() -> Vec<Case> {
    let case = Case::plain("sum of squares", |device| {
        let vectors = LENGTHS.into_iter().zip(0..);
        let vectors = vectors.map(|(len, seed)| noise(len, seed));
        let total: f64 = match ops::is_cpu(device) {
            // Exactly: so many do not add up in f32.
            true => vectors.flatten().map(|x| f64::from(x).powi(2)).sum(),
            false => {
                let vectors: Vec<_> = vectors.map(|x| vector(&x, device)).collect();
                let parts = values(sum_squares(&vectors)).into_iter();
                parts.map(f64::from).sum()
            }
        };
        vec![vec![total as f32]]
    });
    vec![case]
}
