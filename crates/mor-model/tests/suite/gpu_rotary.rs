//! Rotary positions on a GPU against the CPU, their formula and finite differences: values and gradients.
use std::sync::Arc;

use crate::common::gpu::gpu;
use crate::common::gradients::{
    check, check_operation, check_operation_in_half, close, noise, tensor,
};
use crate::common::values;
use burn::tensor::{Device, Tensor};
use mor_model::gpu::Variant;
use mor_model::ops::{self, Positions};

const BASE: f32 = 10_000.0;

/// The rotation of the values of `[rows, dim]`, in f64.
fn formula(x: &[f32], dim: usize, heads: usize, position: impl Fn(usize) -> usize) -> Vec<f64> {
    let (head_dim, half) = (dim / heads, dim / heads / 2);
    (0..x.len())
        .map(|at| {
            let column = at % dim % head_dim;
            let exponent = -2.0 * (column % half) as f64 / head_dim as f64;
            let angle = position(at / dim) as f64 * f64::from(BASE).powf(exponent);
            let other = match column < half {
                true => -f64::from(x[at + half]),
                false => f64::from(x[at - half]),
            };
            f64::from(x[at]) * angle.cos() + other * angle.sin()
        })
        .collect()
}

#[test]
fn values_and_gradients() {
    for variant in Variant::ALL {
        let (device, _guard) = gpu(variant);
        check_operation("rotary", &device, variant);
    }
}

#[test]
fn late_positions_are_exact() {
    let (device, _guard) = gpu(Variant::Portable);
    let (seq, dim, heads) = (2100, 16, 2);
    let given = noise(seq * dim, 1);
    let largest_difference = |found: Tensor<3>, expected: Vec<f64>| {
        let found = values(found);
        assert_eq!(found.len(), expected.len());
        let pairs = found.iter().zip(expected);
        pairs.fold(0.0, |most: f64, (x, y)| most.max((f64::from(*x) - y).abs()))
    };
    let x = tensor(&given, [1, seq, dim], &device);
    let found = ops::rotary(x.clone(), heads, BASE, None);
    let worst = largest_difference(found, formula(&given, dim, heads, |row| row));
    println!("in order: {worst:.1e}");
    assert!(worst < 1e-6, "{worst}");

    let positions = (0..seq).map(|row| (seq - row + 3000) as u32);
    let positions: Arc<Positions> = Arc::new(positions.collect());
    let found = ops::rotary(x, heads, BASE, Some(&positions));
    let expected = formula(&given, dim, heads, |row| seq - row + 3000);
    let worst = largest_difference(found, expected);
    println!("backwards: {worst:.1e}");
    assert!(worst < 1e-6, "{worst}");
}

/// Pairs that fill more workgroups than a dimension of the grid has.
#[test]
fn large_tensors_are_rotated_whole() {
    let (device, _guard) = gpu(Variant::Workgroup);
    let (seq, dim, heads) = (1100, 4096, 64);
    let given = noise(seq * dim, 1);
    let [found, expected] = [device, Device::flex()].map(|device| {
        let x = tensor(&given, [1, seq, dim], &device);
        values(ops::rotary(x, heads, BASE, None))
    });
    close("large", &found, &expected, 2e-6);
}

#[test]
fn other_holders_of_the_tensor_keep_it() {
    let (device, _guard) = gpu(Variant::Portable);
    let given = noise(2 * 5 * 8, 1);
    let x = tensor(&given, [2, 5, 8], &device);
    let part = x.clone().narrow(0, 1, 1);
    let rotated = values(ops::rotary(x.clone(), 2, BASE, None));
    assert_ne!(rotated, given);
    assert_eq!(values(ops::rotary(part, 2, BASE, None)), rotated[40..]);
    assert_eq!(values(x), given);
    // The product keeps its factors for the backward pass, and the gradient that is rotated back has two uses.
    let operands = [(given, [2, 5, 8])];
    check("rotary of a shared tensor", &device, &operands, &|x| {
        let doubled = x[0].clone() * 2.0;
        let squares = doubled.clone() * doubled.clone();
        let rotated = ops::rotary(doubled, 2, BASE, None);
        rotated + squares
    });
}

#[test]
fn half_precision_is_close() {
    check_operation_in_half("rotary");
}
