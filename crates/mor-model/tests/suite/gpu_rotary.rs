//! Rotary positions on a GPU against the CPU, their formula and finite differences: values and gradients.
use std::sync::Arc;

use crate::common::gpu::{check_half, gpu};
use crate::common::gradients::{check, close, noise, tensor};
use crate::common::values;
use burn::tensor::{Device, Tensor};
use mor_model::gpu::Variant;
use mor_model::ops::{self, Positions};

const BASE: f32 = 10_000.0;

/// Positions that neither count up nor fit the length.
fn scattered(count: usize) -> Arc<Positions> {
    let positions = (0..count).map(|at| (at * 5 % 11 * 7) as u32);
    Arc::new(positions.collect())
}

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
        // Tables grow, and serve shorter sequences. The last element of an odd head stays as it is.
        for (shape, heads) in [
            ([1, 1, 4], 2),
            ([1, 3, 10], 2),
            ([2, 19, 48], 4),
            ([1, 70, 48], 4),
            ([3, 5, 48], 4),
            ([2, 9, 256], 1),
        ] {
            let [batch, seq, dim] = shape;
            let x = [(noise(batch * seq * dim, 1), shape)];
            let what = format!("{variant} rotary of {shape:?}, {heads} heads");
            check(&what, &device, &x, &|x| {
                ops::rotary(x[0].clone(), heads, BASE, None)
            });
            let positions = scattered(batch * seq);
            check(&format!("{what}, scattered"), &device, &x, &|x| {
                ops::rotary(x[0].clone(), heads, BASE, Some(&positions))
            });
        }
        // On views: neither is contiguous, the other starts within its buffer.
        let x = [(noise(3 * 8 * 6, 1), [3, 8, 6])];
        check(&format!("{variant} rotary of views"), &device, &x, &|x| {
            let turned = ops::rotary(x[0].clone().swap_dims(1, 2), 2, BASE, None);
            let part = ops::rotary(x[0].clone().narrow(0, 1, 2), 1, BASE, None);
            turned.swap_dims(1, 2).narrow(0, 0, 2) * part
        });
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
    for positions in [None, Some(scattered(63))] {
        let x = [(noise(9 * 7 * 10, 1), [9, 7, 10])];
        check_half("rotary", &x, 2e-3, |x, dtype| {
            ops::rotary(x[0].clone().cast(dtype), 1, BASE, positions.as_ref())
        });
    }
}
