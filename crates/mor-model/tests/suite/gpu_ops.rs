//! Attention and routing on a GPU, in every variant of their kernels, against the CPU and finite differences: values
//! and the gradient of every operand.
use crate::common::gpu::{check_half, gpu, on_every_variant};
use crate::common::gradients::{check, noise};
use crate::common::values;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use mor_model::gpu::Variant;
use mor_model::ops::{self, composed};

fn list(rows: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(rows, device)
}

fn attention(variant: Variant) {
    let (device, _guard) = gpu(variant);
    let cases = [
        ([1, 1, 8], 2, false),
        ([2, 4, 6], 2, true),
        ([2, 7, 24], 2, true),
        ([3, 37, 40], 2, true),
        ([1, 50, 128], 2, false),
        ([1, 9, 128], 1, true),
        ([1, 9, 256], 1, true),
    ];
    for (shape, heads, masked) in cases {
        let [batch, seq, dim] = shape;
        let len = batch * seq * dim;
        let operands: Vec<_> = (0..3).map(|seed| (noise(len, seed), shape)).collect();
        // The last row sees nothing before its middle, as with pads in front.
        let seen =
            (0..batch * seq).map(|at| at % 5 != 1 && (at + seq / 2 < batch * seq || at % seq > 2));
        let seen: Vec<bool> = seen.collect();
        check(
            &format!("{variant} attention of {shape:?}, {heads} heads"),
            &device,
            &operands,
            &|x| {
                let mask = masked.then(|| {
                    let seen = TensorData::new(seen.clone(), [batch, seq]);
                    Tensor::<2, Bool>::from_data(seen, &x[0].device())
                });
                let [q, k, v] = [x[0].clone(), x[1].clone(), x[2].clone()];
                // The CPU's kernels end at heads of 128.
                match dim / heads > 128 && ops::is_cpu(&q.device()) {
                    true => composed::causal_attention(q, k, v, mask, heads),
                    false => ops::causal_attention(q, k, v, mask, heads),
                }
            },
        );
    }
    // On views: none is contiguous.
    let operands: Vec<_> = (0..3)
        .map(|seed| (noise(2 * 8 * 6, seed), [2, 8, 6]))
        .collect();
    check(
        &format!("{variant} attention of views"),
        &device,
        &operands,
        &|x| {
            let [q, k, v] = [0, 1, 2].map(|at| x[at].clone().swap_dims(1, 2));
            ops::causal_attention(q, k, v, None, 2)
        },
    );
}

fn rows(variant: Variant) {
    let (device, _guard) = gpu(variant);
    for (shape, chosen) in [
        ([5, 2, 3], vec![1, 4]),
        ([9, 33, 40], vec![0, 2, 3, 8]),
        ([3, 1, 1], vec![2]),
    ] {
        let [_, seq, dim] = shape;
        let count = chosen.len();
        let x = (noise(shape.iter().product(), 1), shape);
        let new = (noise(count * seq * dim, 2), [count, seq, dim]);
        check(
            &format!("{variant} gather"),
            &device,
            std::slice::from_ref(&x),
            &|x| ops::gather_rows(x[0].clone(), list(&chosen, &x[0].device()), count),
        );
        check(&format!("{variant} scatter"), &device, &[x, new], &|x| {
            ops::scatter_rows(x[0].clone(), x[1].clone(), list(&chosen, &x[0].device()))
        });
    }
}

fn select(variant: Variant) {
    let (device, _guard) = gpu(variant);
    for rows in [1, 7, 256, 700] {
        let depths: Vec<i64> = (0..rows).map(|row| row * 31 % 7 % 5).collect();
        for step in 0..5 {
            let chosen = (0..rows).filter(|row| depths[*row as usize] > step);
            let expected: Vec<i64> = chosen.collect();
            for device in [device.clone(), Device::flex()] {
                let depths = Tensor::<1, Int>::from_data(depths.as_slice(), &device);
                let (list, chosen) = ops::select_rows(depths, step as u32);
                let ints = |x: Tensor<1, Int>| -> Vec<i64> {
                    let data = x.into_data().convert::<i64>();
                    data.try_into_vec().expect("integers")
                };
                let count = expected.len();
                assert_eq!(ints(chosen), [count as i64]);
                assert_eq!(ints(list)[..count], expected, "{variant}, step {step}");
            }
        }
    }
}

on_every_variant!(attention);

#[test]
fn routing() {
    for variant in Variant::ALL {
        rows(variant);
        select(variant);
    }
}

#[test]
fn scattering_leaves_other_holders_of_the_tensor_alone() {
    let (device, _guard) = gpu(Variant::Portable);
    let x = Tensor::<2>::ones([3, 2], &device);
    let zeros = Tensor::<2>::zeros([1, 2], &device);
    let y = ops::scatter_rows(x.clone(), zeros, list(&[1], &device));
    assert_eq!(values(y), [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    assert_eq!(values(x), [1.0; 6]);
}

#[test]
fn half_precision_is_close() {
    let operands = [0, 1, 2].map(|seed| (noise(2 * 21 * 40, seed), [2, 21, 40]));
    check_half("attention", &operands, 5e-3, |x, dtype| {
        let [q, k, v] = [0, 1, 2].map(|at| x[at].clone().cast(dtype));
        let rows = list(&[1], &q.device());
        let y = ops::causal_attention(q, k, v, None, 2);
        let row = ops::gather_rows(y.clone(), rows.clone(), 1);
        ops::scatter_rows(y, row * 2.0, rows)
    });
}
